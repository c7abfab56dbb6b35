"""A long walk round a ring on which no step can be known for sure, so that errors compound.

The first failure that Bachmann & Nagarajan (2024) name, snowballing, in its purest form: with the truth shown, each
step is got right with the same probability whatever is learned, and a whole answer only where all of them are. The task
is our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint, mix
from foresee.tasks.base import tasks
from foresee.tasks.number_task import NumberTask
from foresee.tasks.reading import require_option

HALF = 2**32


@tasks.register("noisy-chain")
@dataclass(frozen=True, kw_only=True)
class NoisyChain(NumberTask):
    """``length`` steps round a ring of ``states`` places, each to the next place but for slips.

    The prompt is ``key`` random numbers and the place where the walk starts. A step slips with probability ``noise``:
    it then leads to one of the other places, all equally likely, and the walk goes on from there. Whether and where it
    slips is a fixed function of the prompt and of the step's number (SplitMix64 of both), so every prompt has one right
    answer; but for a model it is noise, since the function cannot be learned from examples.

    With noise known as noise, every step is right with probability 1 - noise given the truth, and ``exact`` is
    (1 - noise) ** length, which is ``chance``; ``plateau`` is the entropy of a step. Two problems are the same where
    their prompts are. Raises ``RequestError`` where an option is out of range or prompts do not fit 63 bits.
    """

    summary: ClassVar[str] = "a walk whose steps slip unforeseeably now and then, so that errors compound"

    length: int = 20
    states: int = 10
    noise: float = 0.04
    key: int = 9

    def __post_init__(self) -> None:
        require_option("noisy-chain", "length", self.length, 1, 1000)
        require_option("noisy-chain", "states", self.states, 3, 1000)
        require_option("noisy-chain", "noise", self.noise, 0, 1)
        require_option("noisy-chain", "key", self.key, 1, 38)
        if self.states**self.inputs >= 2**63:
            raise RequestError(
                f"noisy-chain: states={self.states},key={self.key} makes {self.states}**{self.inputs} prompts, but "
                "there must be fewer than 2**63"
            )

    @property
    def size(self) -> int:
        return self.states

    @property
    def inputs(self) -> int:
        return self.key + 1

    @property
    def chance(self) -> float:
        return float((1 - self.noise) ** self.length)

    @property
    def plateau(self) -> float:
        outcomes = [1 - self.noise] + [self.noise / (self.states - 1)] * (self.states - 1)
        return -sum(share * math.log(share) for share in outcomes if share > 0)

    @property
    def answer_length(self) -> int:
        return self.length

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
        """The walk, step by step. Raises ``RequestError`` on a prompt of another form."""
        numbers = self.numbers_of(prompt, "noisy-chain")
        number = 0
        for each in numbers:
            number = number * self.states + each
        key, place, walk = _splitmix64(number), numbers[-1], []
        for step in range(1, self.length + 1):
            upper, lower = divmod(_splitmix64(key + step), HALF)
            place += 1 if upper >= self.slips_below else 2 + lower % (self.states - 1)
            walk.append(place % self.states)
        return walk

    def identity(self, batch: Batch) -> Fingerprints:
        return fingerprint(self.problems_in(batch))


def _splitmix64(number: int) -> int:
    """Steele, Lea and Flood's SplitMix64 of one number, in Python's own arithmetic."""
    word = (number + 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31
