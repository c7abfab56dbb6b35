"""A claim and the test that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foresee.metrics.stats.correction import holm

ALPHA = 0.05
"""Largest corrected p-value at which a claim counts as shown."""


@dataclass(frozen=True)
class Evidence:
    """What a test found: its name, the statistic, the p-value, and ``n``, how many units it rests on (seeds, pairs of
    runs, or test examples, as ``unit`` says).

    ``least`` is the smallest p-value that this test could have given with that many units, where that is known: with
    three seeds against three no exact test goes below 0.1, whatever is measured.
    """

    name: str
    statistic: float
    p: float
    n: int
    unit: str
    least: float | None = None


@dataclass(frozen=True)
class Claim:
    """A sentence that a report prints, with the test behind it.

    ``sentence`` says what would be true; ``corrected`` is the p-value corrected for all claims that were made together
    (Holm), and ``shown`` whether it is at most 0.05. A claim that is not shown is not refuted.
    """

    sentence: str
    evidence: Evidence
    corrected: float

    @property
    def shown(self) -> bool:
        """Whether the corrected p-value is small enough."""
        return self.corrected <= ALPHA

    def json(self) -> dict[str, Any]:
        """Plain data."""
        flat = asdict(self.evidence)
        return {"sentence": self.sentence, "test": flat.pop("name"), **flat, "corrected": self.corrected,
                "shown": self.shown}  # fmt: skip


def claims_of(tested: Sequence[tuple[str, Evidence]]) -> list[Claim]:
    """Sentences and their tests as claims, corrected for each other by Holm's method."""
    corrected = holm([evidence.p for _, evidence in tested])
    return [Claim(sentence, evidence, p) for (sentence, evidence), p in zip(tested, corrected, strict=True)]
