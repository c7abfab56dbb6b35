"""Addition and multiplication of two zero-padded numbers, the digits of the result in plain or reversed order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.bounds import Bounds
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.base import Task, fingerprint_set, tasks
from foresee.tasks.text import TextForm

DigitOrder = Literal["plain", "reversed"]
Digits = NDArray[numpy.int64]


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Task):
    """``a+b=c`` or ``a*b=c``: two numbers of ``digits`` digits each, zeros in front, and the result, its digits in
    ``order``: "plain", most significant first, or "reversed". Two problems are the same where their two numbers are, in
    either order."""

    sign: ClassVar[str]

    digits: int
    order: DigitOrder = "plain"

    def declare_digits(self, answer_length: int, chance: float) -> None:
        """``chance`` takes the whole result for one decision."""
        super().__post_init__()
        vocab, prompt_length = Vocabulary((*"0123456789", self.sign, "=")), 2 * self.digits + 2
        self.declare(vocab=vocab, chance=chance, prompt_length=prompt_length, answer_length=answer_length)

    @abstractmethod
    def results(self, a: Digits, b: Digits) -> Digits:
        """[B] results of numbers [B]."""

    @abstractmethod
    def by_hand(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        """The result's digits from the operands' digits, all least significant first, worked out digit by digit."""

    @cached_property
    def text(self) -> TextForm:
        padding = "0" * (self.digits - 1)
        example = f"{padding}2{self.sign}{padding}3={'0' * self.answer_length}"
        return TextForm(example, marks=(self.sign, "="), separator="", noun="digit")

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        a, b = rng.integers(10**self.digits, size=(2, n))
        sign, equals = numpy.full((n, 1), 10), numpy.full((n, 1), 11)
        result = digits_of(self.results(a, b), self.answer_length)
        answer = result if self.order == "plain" else result[:, ::-1]
        tokens = [digits_of(a, self.digits), sign, digits_of(b, self.digits), equals, answer]
        bare = Batch.of(torch.from_numpy(numpy.concatenate(tokens, axis=1)), self.prompt_length, self.answer_length)
        return replace(bare, facts=self.facts_of(bare))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The result as learned at school."""
        tokens = [int(token) for token in prompt]
        a, sign, b, equals = tokens[: self.digits], tokens[self.digits :][:1], tokens[self.digits + 1 : -1], tokens[-1:]
        if len(tokens) != self.prompt_length or sign != [10] or equals != [11] or not set(a + b) <= set(range(10)):
            raise RequestError(f"a prompt is {self.digits} digits, '{self.sign}', {self.digits} digits and '='")
        result = self.by_hand(a[::-1], b[::-1])
        return result if self.order == "reversed" else result[::-1]

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: the pair of operands, whichever comes first."""
        a, b = self.operands_in(batch)
        powers = 10 ** numpy.arange(self.digits - 1, -1, -1)
        return fingerprint_set(numpy.stack([a @ powers, b @ powers], axis=1))

    def operands_in(self, batch: Batch) -> tuple[Digits, Digits]:
        """[B, digits], twice: the digits of both operands, most significant first."""
        tokens = batch.tokens.cpu().numpy()
        return tokens[:, : self.digits], tokens[:, self.digits + 1 : 2 * self.digits + 1]


def digits_of(numbers: Digits, count: int) -> Digits:
    """[B] -> [B, count] decimal digits, most significant first."""
    return numbers[:, None] // 10 ** numpy.arange(count - 1, -1, -1) % 10


@tasks.register("addition")
@dataclass(frozen=True, kw_only=True)
class Addition(Arithmetic):
    """``057+986=1043``: two numbers of ``digits`` digits, drawn uniformly, and their sum in ``digits`` + 1 digits.

    With order=reversed, ``057+986=3401``, each digit needs the carry of the one before it alone. In plain order a carry
    must be foreseen from digits further to the right, and no earlier digit of the answer gives it away.

    Facts: ``distance`` [B], from how many places a carry must be worked out for the digit of the sum that needs most of
    them: 1 where every carry is settled by the place to its right (its digits do not add up to 9), more along a run of
    places that add up to 9. It says nothing about the order.
    """

    summary: ClassVar[str] = "the sum of two numbers, most or least significant digit first"
    sign: ClassVar[str] = "+"

    digits: Annotated[int, Bounds(1, 17)] = 3

    def __post_init__(self) -> None:
        self.declare_digits(self.digits + 1, float(1 / (2 * 10**self.digits - 1)))

    def results(self, a: Digits, b: Digits) -> Digits:
        return a + b

    def by_hand(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        carry, result = 0, []
        for above, below in zip(a, b, strict=True):
            carry, digit = divmod(above + below + carry, 10)
            result.append(digit)
        return [*result, carry]

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        a, b = self.operands_in(batch)
        run, distance = numpy.zeros(len(a), numpy.int64), numpy.ones(len(a), numpy.int64)
        for place, nine in enumerate((a + b == 9)[:, ::-1].T, 1):
            run = numpy.where(nine, run + 1, 0)
            # A run that reaches the last place ends there: nothing is carried into it.
            distance = numpy.maximum(distance, numpy.minimum(run + 1, place))
        return {"distance": torch.from_numpy(distance)}


@tasks.register("multiplication")
@dataclass(frozen=True, kw_only=True)
class Multiplication(Arithmetic):
    """``12*34=0408``, or with order=reversed ``12*34=8040``: two numbers of ``digits`` digits, drawn uniformly, and
    their product in 2 * ``digits`` digits."""

    summary: ClassVar[str] = "the product of two numbers, most or least significant digit first"
    sign: ClassVar[str] = "*"

    digits: Annotated[int, Bounds(1, 9)] = 2

    def __post_init__(self) -> None:
        self.declare_digits(2 * self.digits, float(10.0 ** (-2 * self.digits)))

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


tasks.preset("addition-plain", "addition:digits=4")
tasks.preset("addition-reversed", "addition:digits=4,order=reversed")
tasks.preset("multiplication-plain", "multiplication:digits=2")
tasks.preset("multiplication-reversed", "multiplication:digits=2,order=reversed")
