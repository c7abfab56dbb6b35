"""Addition of two numbers with the digits of the sum in plain or reversed order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy
import torch
from torch import Tensor

from foresee.tasks.arithmetic import Arithmetic, Digits
from foresee.tasks.base import tasks


@tasks.register("addition")
@dataclass(frozen=True, kw_only=True)
class Addition(Arithmetic):
    """``057+986=1043``: two numbers of ``digits`` digits, drawn uniformly, and their sum in ``digits`` + 1 digits.

    ``order`` "reversed" writes the sum least significant digit first, ``057+986=3401``, so that each digit needs the
    carry of the one before it alone. In "plain" order a carry must be foreseen from digits further to the right, and no
    earlier digit of the answer gives it away; not every lookahead is open to a shortcut.

    Facts: ``distance`` [B], from how many places a carry must be worked out for the digit of the sum that needs most of
    them: 1 where every carry is settled by the place to its right (its digits do not add up to 9), more along a run of
    places that add up to 9. It says nothing about the order, so both orders can be compared by it. Ours, after
    research/tasks.md section 12, which asks for accuracy on long carries.

    The sum as a whole is the decision, so ``chance`` is that of guessing it among all sums there are. Two problems are
    the same where they add the same two numbers, in either order. Raises ``RequestError`` where ``digits`` is not from
    1 to 17.
    """

    summary: ClassVar[str] = "the sum of two numbers, most or least significant digit first"
    name: ClassVar[str] = "addition"
    sign: ClassVar[str] = "+"
    most_digits: ClassVar[int] = 17

    digits: int = 3

    @property
    def chance(self) -> float:
        return float(1 / (2 * 10**self.digits - 1))

    @property
    def answer_length(self) -> int:
        return self.digits + 1

    def results(self, a: Digits, b: Digits) -> Digits:
        return a + b

    def by_hand(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        carry, result = 0, []
        for above, below in zip(a, b, strict=True):
            carry, digit = divmod(above + below + carry, 10)
            result.append(digit)
        return [*result, carry]

    def facts_in(self, tokens: Digits) -> dict[str, Tensor]:
        a, b = self.operands_in(tokens)
        run = numpy.zeros(len(tokens), numpy.int64)
        distance = numpy.ones(len(tokens), numpy.int64)
        for place, nine in enumerate((a + b == 9)[:, ::-1].T, 1):
            run = numpy.where(nine, run + 1, 0)
            # A run that reaches the last place ends there: nothing is carried into it.
            distance = numpy.maximum(distance, numpy.minimum(run + 1, place))
        return {"distance": torch.from_numpy(distance)}


tasks.preset("addition-plain", "addition:digits=4")
tasks.preset("addition-reversed", "addition:digits=4,order=reversed")
