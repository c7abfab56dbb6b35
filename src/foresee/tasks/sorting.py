"""Sorting: the numbers of the prompt in ascending order. A control: each token follows from the prompt and the one
before it, without any lookahead, and backwards just as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.tasks import fingerprints
from foresee.tasks.base import tasks
from foresee.tasks.number_task import Rearrangement
from foresee.tasks.path_star_graphs import distinct
from foresee.tasks.reading import require_option, shown


@tasks.register("sorting")
@dataclass(frozen=True, kw_only=True)
class Sorting(Rearrangement):
    """``length`` different numbers below ``symbols`` in random order, and the same numbers ascending.

    No token is a decision, so a solver that knows all but the decision is always right: ``chance`` is 1. Two problems
    are the same where they hold the same numbers, in whatever order. Raises ``RequestError`` where an option is out of
    range.
    """

    summary: ClassVar[str] = "the prompt's numbers in ascending order: a control without a decision"

    length: int = 8
    symbols: int = 30

    def __post_init__(self) -> None:
        require_option("sorting", "symbols", self.symbols, 2, 10_000)
        require_option("sorting", "length", self.length, 1, min(self.symbols, 1000))

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        problems = distinct(rng, self.length, self.symbols, n).T.astype(numpy.int64)
        return self.batch_of(problems, numpy.sort(problems, axis=1))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The smallest number left, again and again. Raises ``RequestError`` on a prompt of another form."""
        left = self.numbers_of(prompt, "sorting")
        ascending = []
        while left:
            ascending.append(left.pop(left.index(min(left))))
        return ascending

    def check_problem(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if numbers.count(number) > 1:
                raise RequestError(f"{shown(str(number))} is in the prompt twice, but its numbers must be different")

    def identity(self, batch: Batch) -> Fingerprints:
        return fingerprints.of_set(self.problems_in(batch))
