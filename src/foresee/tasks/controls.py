"""Controls, whose prompts and answers are lists of numbers, ``3,1,2=1,2,3``: copying, sorting and the noisy chain.

Copying and sorting hold no decision. On the noisy chain no step can be known for sure, so that errors compound: the
first failure that Bachmann & Nagarajan (2024) name, snowballing, in its purest form. These tasks are our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy
import torch
from numpy.typing import NDArray

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint, mix
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.base import Bounds, Task, fingerprint_set, require_option, tasks
from foresee.tasks.path_star_draw import distinct

HALF = 2**32


class NumberTask(Task):
    """The prompt is ``inputs`` numbers below ``size`` and ``=``, and the answer other numbers, one right answer each.

    Tokens 0 .. size - 1 are the numbers; ``=`` follows. The commas of the text form are not tokens.
    """

    inputs: int
    size: int

    def declare_numbers(
        self, size: int, inputs: int, length: int, chance: float = 1.0, plateau: float | None = None
    ) -> None:
        """``chance`` is 1 where no token is a decision: a solver that knows all but the decision is always right."""
        vars(self).update(size=size, inputs=inputs)
        vocab = Vocabulary((*map(str, range(size)), "="))
        self.declare(vocab=vocab, chance=chance, prompt_length=inputs + 1, answer_length=length, plateau=plateau)

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: a fingerprint of the prompt's numbers in their order."""
        return fingerprint(self.problems_in(batch))

    def numbers_of(self, prompt: Sequence[int]) -> list[int]:
        """The numbers of a prompt. Raises ``RequestError`` where it has another form."""
        *numbers, equals = [int(token) for token in prompt] or [-1]
        if len(numbers) != self.inputs or equals != self.size or not all(0 <= each < self.size for each in numbers):
            raise RequestError(
                f"the prompt holds {len(numbers)} numbers, but must hold {self.inputs} below {self.size}, and then '='"
            )
        return numbers

    def batch_of(self, problems: NDArray[numpy.int64], answers: NDArray[numpy.int64]) -> Batch:
        """Rows of numbers [B, inputs] and [B, length] as a batch."""
        equals = numpy.full((len(problems), 1), self.size)
        tokens = numpy.concatenate([problems, equals, answers], axis=1).astype(numpy.int64)
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.answer_length)

    def problems_in(self, batch: Batch) -> NDArray[numpy.int64]:
        """[B, inputs] the numbers of prompts."""
        return batch.tokens[:, : self.inputs].cpu().numpy()


@tasks.register("copying")
@dataclass(frozen=True, kw_only=True)
class Copying(NumberTask):
    """``length`` numbers drawn uniformly and independently from ``symbols``, and the same numbers again."""

    summary: ClassVar[str] = "the prompt again: a control without a decision"

    length: Annotated[int, Bounds(1, 1000)] = 10
    symbols: Annotated[int, Bounds(2, 10_000)] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        self.declare_numbers(self.symbols, self.length, self.length)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        problems = rng.integers(self.symbols, size=(n, self.length))
        return self.batch_of(problems, problems)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The numbers of the prompt."""
        return self.numbers_of(prompt)


@tasks.register("sorting")
@dataclass(frozen=True, kw_only=True)
class Sorting(NumberTask):
    """``length`` different numbers below ``symbols`` in random order, and the same numbers ascending. Two problems are
    the same where they hold the same numbers, in whatever order."""

    summary: ClassVar[str] = "the prompt's numbers in ascending order: a control without a decision"

    length: int = 8
    symbols: Annotated[int, Bounds(2, 10_000)] = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self, "length", 1, min(self.symbols, 1000))
        self.declare_numbers(self.symbols, self.length, self.length)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        problems = distinct(rng, self.length, self.symbols, n).T.astype(numpy.int64)
        return self.batch_of(problems, numpy.sort(problems, axis=1))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The smallest number left, again and again."""
        left = self.numbers_of(prompt)
        ascending = []
        while left:
            ascending.append(left.pop(left.index(min(left))))
        return ascending

    def check_prompt(self, prompt: Sequence[int]) -> None:
        numbers = self.numbers_of(prompt)
        twice = [number for number in numbers if numbers.count(number) > 1]
        if twice:
            raise RequestError(f"'{twice[0]}' is in the prompt twice, but its numbers must be different")

    def identity(self, batch: Batch) -> Fingerprints:
        return fingerprint_set(self.problems_in(batch))


@tasks.register("noisy-chain")
@dataclass(frozen=True, kw_only=True)
class NoisyChain(NumberTask):
    """``length`` steps round a ring of ``states`` places, each to the next place but for slips.

    The prompt is ``key`` random numbers and the place where the walk starts. A step slips with probability ``noise``:
    it then leads to one of the other places, and the walk goes on from there. Whether and where it slips is a fixed
    function of the prompt and of the step's number (SplitMix64 of both), so every prompt has one right answer; but for
    a model it is noise, since the function cannot be learned from examples. ``chance`` is (1 - noise) ** length, and
    ``plateau`` the entropy of a step.
    """

    summary: ClassVar[str] = "a walk whose steps slip unforeseeably now and then, so that errors compound"

    length: Annotated[int, Bounds(1, 1000)] = 20
    states: Annotated[int, Bounds(3, 1000)] = 10
    noise: Annotated[float, Bounds(0, 1)] = 0.04
    key: Annotated[int, Bounds(1, 38)] = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.states ** (self.key + 1) >= 2**63:
            prompts = f"states={self.states},key={self.key} makes {self.states}**{self.key + 1} prompts"
            raise RequestError(f"noisy-chain: {prompts}, but there must be fewer than 2**63")
        outcomes = [1 - self.noise] + [self.noise / (self.states - 1)] * (self.states - 1)
        entropy = -sum(share * math.log(share) for share in outcomes if share > 0)
        self.declare_numbers(self.states, self.key + 1, self.length, float((1 - self.noise) ** self.length), entropy)

    @property
    def slips_below(self) -> int:
        """A step slips where the upper half of its word is below this."""
        return round(self.noise * HALF)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        problems = rng.integers(self.states, size=(n, self.inputs))
        numbers: Fingerprints = numpy.zeros(n, numpy.uint64)
        for column in problems.T:
            numbers *= numpy.uint64(self.states)
            numbers += column.astype(numpy.uint64)
        steps: Fingerprints = numpy.arange(1, self.length + 1, dtype=numpy.uint64)
        words = mix(mix(numbers)[:, None] + steps)
        upper, lower = words >> numpy.uint64(32), words & numpy.uint64(HALF - 1)
        slip = 2 + (lower % numpy.uint64(self.states - 1)).astype(numpy.int64)
        moved = numpy.where(upper < self.slips_below, slip, 1).cumsum(axis=1)
        return self.batch_of(problems, (problems[:, -1:] + moved) % self.states)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The walk, step by step."""
        numbers = self.numbers_of(prompt)
        number = 0
        for each in numbers:
            number = number * self.states + each
        key, place, walk = _splitmix64(number), numbers[-1], []
        for step in range(1, self.length + 1):
            upper, lower = divmod(_splitmix64(key + step), HALF)
            place += 1 if upper >= self.slips_below else 2 + lower % (self.states - 1)
            walk.append(place % self.states)
        return walk


def _splitmix64(number: int) -> int:
    """Steele, Lea and Flood's SplitMix64 of one number, in Python's own arithmetic."""
    word = (number + 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31
