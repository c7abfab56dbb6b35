"""Multiplication of two numbers with the digits of the product in plain or reversed order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from foresee.tasks.arithmetic import Arithmetic, Digits
from foresee.tasks.base import tasks


@tasks.register("multiplication")
@dataclass(frozen=True, kw_only=True)
class Multiplication(Arithmetic):
    """``12*34=0408``: two numbers of ``digits`` digits, drawn uniformly, and their product in 2 * ``digits`` digits.

    ``order`` "reversed" writes the product least significant digit first, ``12*34=8040``.

    The product as a whole is the decision, so ``chance`` is that of guessing all its digits. Two problems are the same
    where they multiply the same two numbers, in either order. Raises ``RequestError`` where ``digits`` is not from 1 to
    9.
    """

    summary: ClassVar[str] = "the product of two numbers, most or least significant digit first"
    name: ClassVar[str] = "multiplication"
    sign: ClassVar[str] = "*"
    most_digits: ClassVar[int] = 9

    digits: int = 2

    @property
    def chance(self) -> float:
        return 10.0**-self.answer_length

    @property
    def answer_length(self) -> int:
        return 2 * self.digits

    def results(self, a: Digits, b: Digits) -> Digits:
        return a * b

    def by_hand(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        result = [0] * (len(a) + len(b))
        for shift, factor in enumerate(b):
            carry = 0
            for place, digit in enumerate(a, shift):
                carry, result[place] = divmod(result[place] + digit * factor + carry, 10)
            result[shift + len(a)] = carry
        return result


tasks.preset("multiplication-plain", "multiplication:digits=2")
tasks.preset("multiplication-reversed", "multiplication:digits=2,order=reversed")
