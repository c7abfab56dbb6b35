"""What addition and multiplication share: two zero-padded numbers and a result, digit by digit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import fingerprints, reading
from foresee.tasks.base import Task

DigitOrder = Literal["plain", "reversed"]
Digits = NDArray[numpy.int64]


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Task):
    """``a+b=c`` or ``a*b=c``: two numbers of ``digits`` digits each, drawn uniformly, zeros in front, and the result.

    Tokens 0 to 9 are the digits; the sign and ``=`` follow. ``order`` is that of the result's digits: "plain", most
    significant first, or "reversed", least significant first; the operands are always plain.
    """

    name: ClassVar[str]
    sign: ClassVar[str]
    most_digits: ClassVar[int]

    digits: int
    order: DigitOrder = "plain"

    def __post_init__(self) -> None:
        reading.require_option(self.name, "digits", self.digits, 1, self.most_digits)
        if self.order not in get_args(DigitOrder):
            raise RequestError(f"{self.name}: order={self.order!r}, but it must be plain or reversed")

    @abstractmethod
    def results(self, a: Digits, b: Digits) -> Digits:
        """[B] results of numbers [B]."""

    @abstractmethod
    def by_hand(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        """The result's digits from the operands' digits, all least significant first, worked out digit by digit."""

    @property
    def vocab(self) -> Vocabulary:
        """The digits, the sign and ``=``."""
        return Vocabulary((*"0123456789", self.sign, "="))

    @property
    def prompt_length(self) -> int:
        return 2 * self.digits + 2

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        a, b = rng.integers(10**self.digits, size=(2, n))
        sign, equals = numpy.full((n, 1), 10), numpy.full((n, 1), 11)
        result = digits_of(self.results(a, b), self.answer_length)
        answer = result if self.order == "plain" else result[:, ::-1]
        tokens = [digits_of(a, self.digits), sign, digits_of(b, self.digits), equals, answer]
        batch = torch.from_numpy(numpy.concatenate(tokens, axis=1))
        return Batch.of(batch, self.prompt_length, self.answer_length, self.facts_in(batch.numpy()))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The result as learned at school. Raises ``RequestError`` on a prompt of another form."""
        tokens = [int(token) for token in prompt]
        a, sign, b, equals = tokens[: self.digits], tokens[self.digits :][:1], tokens[self.digits + 1 : -1], tokens[-1:]
        if len(tokens) != self.prompt_length or sign != [10] or equals != [11] or not set(a + b) <= set(range(10)):
            raise RequestError(
                f"{self.name}: a prompt is {self.digits} digits, '{self.sign}', {self.digits} digits and '='"
            )
        result = self.by_hand(a[::-1], b[::-1])
        return result if self.order == "reversed" else result[::-1]

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        return [int(token) for token in answer] == self.solve(prompt)

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: the pair of operands, whichever comes first."""
        a, b = self.operands_in(batch.tokens.cpu().numpy())
        powers = 10 ** numpy.arange(self.digits - 1, -1, -1)
        return fingerprints.of_set(numpy.stack([a @ powers, b @ powers], axis=1))

    def write_answer(self, answer: Sequence[int]) -> str:
        return "".join(self.vocab.decode(answer))

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        return "".join(self.vocab.decode(prompt)) + self.write_answer(answer)

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        form = "0" * (self.digits - 1)
        problem, written = reading.halves(line, f"{form}2{self.sign}{form}3={'0' * self.answer_length}")
        a, sign, b = problem.partition(self.sign)
        if not sign:
            raise RequestError(f"there is no '{self.sign}' before '='")
        for text, right, what in (
            (a, self.digits, "the first number"),
            (b, self.digits, "the second number"),
            (written, self.answer_length if written else 0, "the answer"),
        ):
            if not set(text) <= set("0123456789"):
                raise RequestError(f"{what} {reading.shown(text)} holds something other than the digits 0 to 9")
            reading.require_count(len(text), right, "digits", f"{what} {reading.shown(text)}")
        prompt, answer = self.vocab.encode(f"{a}{self.sign}{b}="), self.vocab.encode(written)
        if answer:
            right_digits = self.vocab.decode(self.solve(prompt))
            reading.require_same(written, right_digits, f"{a}{self.sign}{b} (order={self.order})")
        return prompt, answer

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return self.facts_in(batch.tokens.cpu().numpy())

    def facts_in(self, tokens: Digits) -> dict[str, Tensor]:
        """Facts of rows of tokens [B, T]."""
        return {}

    def operands_in(self, tokens: Digits) -> tuple[Digits, Digits]:
        """[B, digits], twice: the digits of both operands, most significant first."""
        return tokens[:, : self.digits], tokens[:, self.digits + 1 : 2 * self.digits + 1]


def digits_of(numbers: Digits, count: int) -> Digits:
    """[B] -> [B, count] decimal digits, most significant first."""
    return numbers[:, None] // 10 ** numpy.arange(count - 1, -1, -1) % 10
