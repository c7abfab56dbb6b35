"""Copying: the answer is the prompt. A control on which nothing needs to be foreseen, in either direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy

from foresee.core.batch import Batch
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.tasks.base import tasks
from foresee.tasks.number_task import Rearrangement
from foresee.tasks.reading import require_option


@tasks.register("copying")
@dataclass(frozen=True, kw_only=True)
class Copying(Rearrangement):
    """``length`` numbers drawn uniformly and independently from ``symbols``, and the same numbers again.

    No token is a decision, so a solver that knows all but the decision is always right: ``chance`` is 1. Two problems
    are the same where their sequences are. Raises ``RequestError`` where either option is out of range.
    """

    summary: ClassVar[str] = "the prompt again: a control without a decision"

    length: int = 10
    symbols: int = 20

    def __post_init__(self) -> None:
        require_option("copying", "length", self.length, 1, 1000)
        require_option("copying", "symbols", self.symbols, 2, 10_000)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        problems = rng.integers(self.symbols, size=(n, self.length))
        return self.batch_of(problems, problems)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The numbers of the prompt. Raises ``RequestError`` on a prompt of another form."""
        return self.numbers_of(prompt, "copying")

    def identity(self, batch: Batch) -> Fingerprints:
        return fingerprint(self.problems_in(batch))
