"""What came of a study, as plain data: tables, pages and JSON are made from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foresee.experiments.studies.agreement import Agreement
from foresee.metrics.intervals import Row, share_solved
from foresee.metrics.significance import Claim
from foresee.metrics.survival import Curve, Times, kaplan_meier, median, restricted_mean


@dataclass(frozen=True)
class SeedResult:
    """One finished run: the compared row, the verdict, and when it solved."""

    seed: int
    run: str
    """The run's digest."""
    dir: str
    value: float
    low: float
    high: float
    n: int
    """Test examples."""
    exact: float
    solved: bool
    verdict: str
    inconclusive: bool
    because: str
    steps: int
    """Steps taken."""
    solved_at: int | None
    """The first evaluation during training with ``exact`` of at least 0.95, or None."""
    seconds: float


@dataclass(frozen=True)
class CellResult:
    """One cell: published beside measured."""

    graph: str
    label: str
    row: str
    chance: float
    task: str
    objective: str
    backbone: str
    published: float | None
    """The published value, or the middle of what is known of it; None where no number is known to us."""
    published_low: float | None
    published_high: float | None
    published_text: str
    published_side: str | None
    source: str
    tag: str
    rule: str
    """How agreement was judged."""
    agreement: Agreement
    inconclusive: bool
    """Whether a finished run's verdict is, because its positive control has not solved."""
    seeds_wanted: int
    seeds: tuple[SeedResult, ...]
    controls: tuple[SeedResult, ...]
    note: str

    @property
    def mean(self) -> float | None:
        """The mean over seeds. Outcomes can be bimodal: show the seeds beside it."""
        return math.fsum(seed.value for seed in self.seeds) / len(self.seeds) if self.seeds else None

    @property
    def low(self) -> float | None:
        """The lowest end of the seeds' 95 % intervals."""
        return min((seed.low for seed in self.seeds), default=None)

    @property
    def high(self) -> float | None:
        """The highest end of the seeds' 95 % intervals."""
        return max((seed.high for seed in self.seeds), default=None)

    @property
    def solved(self) -> Row | None:
        """The share of seeds that solved (``exact``), with its interval."""
        return share_solved([seed.solved for seed in self.seeds]) if self.seeds else None

    @property
    def times(self) -> Times | None:
        """Steps to solve, runs that did not solve censored at their last step."""
        return times_of(self.seeds) if self.seeds else None

    @property
    def survival(self) -> Curve | None:
        """The share of runs not yet solved, by step."""
        return kaplan_meier(self.times) if self.times else None

    @property
    def median_steps(self) -> float | None:
        """Steps by which half of the runs had solved, or None where fewer did."""
        return median(self.survival) if self.survival else None

    @property
    def mean_steps(self) -> float | None:
        """The mean of steps to solve restricted to the steps looked at, a run that did not solve counting as those."""
        return restricted_mean(self.survival) if self.survival else None

    def json(self) -> dict[str, Any]:
        """Plain data, with what follows from the seeds."""
        curve = self.survival
        return asdict(self) | {
            "mean": self.mean, "low": self.low, "high": self.high, "solved": self.solved,
            "survival": None if curve is None else asdict(curve),
            "median_steps": self.median_steps, "mean_steps": self.mean_steps,
        }  # fmt: skip


@dataclass(frozen=True)
class StudyResult:
    """A study at one scale."""

    name: str
    """Its canonical spec."""
    summary: str
    question: str
    scale: str
    cost: str
    hardware: str
    cells: tuple[CellResult, ...]
    claims: tuple[Claim, ...]
    untested: tuple[str, ...]
    """Sentences that so few runs could not show, whatever they did."""
    runs_wanted: int
    runs_finished: int
    seconds: float
    """Training time of the finished runs, controls included, each counted once."""
    reproduce: str
    """The command that gives this table."""
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every run is finished."""
        return self.runs_finished == self.runs_wanted

    @property
    def dirs(self) -> list[str]:
        """Every finished run's directory once, controls included."""
        every = [seed.dir for cell in self.cells for seed in (*cell.seeds, *cell.controls)]
        return list(dict.fromkeys(every))

    def json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "study": self.name, "summary": self.summary, "question": self.question, "scale": self.scale,
            "cost": self.cost, "hardware": self.hardware, "complete": self.complete, "runs_wanted": self.runs_wanted,
            "runs_finished": self.runs_finished, "seconds": round(self.seconds, 1),
            "cells": [cell.json() for cell in self.cells], "claims": [claim.json() for claim in self.claims],
            "untested": list(self.untested),
            "reproduce": self.reproduce, "warnings": list(self.warnings),
        }  # fmt: skip


def times_of(seeds: Sequence[SeedResult]) -> Times:
    """Steps to solve of some runs."""
    return Times.of([seed.solved_at for seed in seeds], [seed.steps for seed in seeds])
