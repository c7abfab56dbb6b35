"""What came of a study, as plain data, and what its cells show: each sentence with the test behind it.

Tests take what run folders keep: counts out of n test examples, the same examples for every seed. A statement on every
seed of a cell is tested seed by seed, and the largest p-value counts (an intersection-union test), so examples of
several seeds are never pooled; such a statement is about the models that were trained. Statements about training as
such take the run as the unit. A test that could not show anything with so few runs, whatever they did, is named and not
made, so that it does not count in the correction. All claims of a study are corrected for each other.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

from foresee.experiments.studies.base import Agreement
from foresee.metrics.intervals import rate
from foresee.metrics.significance import (
    ALPHA,
    MOST_FLIPS,
    Claim,
    Evidence,
    at_least,
    correct_claims,
    count_as,
    differ,
    equivalence,
    sign_flip,
)
from foresee.metrics.survival import Curve, Times, kaplan_meier, log_rank, median, restricted_mean
from foresee.metrics.verdict import RELIABLE, SOLVED, chance_margin

if TYPE_CHECKING:
    import pandas

Tested = tuple[str, Evidence]


@dataclass(frozen=True)
class SeedResult:
    """One finished run, named by its digest: the compared row of ``n`` test examples, which are worth
    ``effective`` independent ones, the verdict, when it solved (the first evaluation during training with ``exact`` of
    at least 0.95) and when it had found the edge look-up (``rest`` of at least 0.9)."""

    seed: int
    run: str
    dir: str
    value: float
    low: float
    high: float
    n: int
    effective: float
    exact: float
    exact_effective: float
    solved: bool
    verdict: str
    inconclusive: bool
    doubts: tuple[str, ...]
    because: str
    steps: int
    solved_at: int | None
    seconds: float
    look_ups_at: int | None = None


@dataclass(frozen=True)
class BegunSeed:
    """A run that was stopped before its last step: the last that it reports, and when it solved, if it had."""

    seed: int
    steps: int
    solved_at: int | None


@dataclass(frozen=True)
class CellResult:
    """One cell, published beside measured. ``published`` is the value or the middle of what is known of it, None where
    no number is; ``rule`` says how agreement was judged; ``inconclusive``, whether a finished run's verdict is. Of
    ``begun`` runs the times to solve count, as censored; nothing else does."""

    graph: str
    label: str
    row: str
    chance: float
    task: str
    objective: str
    backbone: str
    published: float | None
    published_low: float | None
    published_high: float | None
    published_text: str
    published_side: str | None
    source: str
    tag: str
    rule: str
    agreement: Agreement
    inconclusive: bool
    seeds_wanted: int
    seeds: tuple[SeedResult, ...]
    controls: tuple[SeedResult, ...]
    note: str
    begun: tuple[BegunSeed, ...] = ()

    @property
    def mean(self) -> float | None:
        """The mean over seeds. Outcomes can be bimodal: show the seeds beside it."""
        return fmean(seed.value for seed in self.seeds) if self.seeds else None

    @property
    def low(self) -> float | None:
        """The lowest end of the seeds' 95 % intervals."""
        return min((seed.low for seed in self.seeds), default=None)

    @property
    def high(self) -> float | None:
        """The highest end of the seeds' 95 % intervals."""
        return max((seed.high for seed in self.seeds), default=None)

    @property
    def left(self) -> list[str]:
        """What is left of its runs, in words."""
        begun, missing = len(self.begun), self.seeds_wanted - len(self.seeds) - len(self.begun)
        return [f"{begun} unfinished"] * (begun > 0) + [f"{missing} to run"] * (missing > 0)

    @property
    def times(self) -> Times:
        """Steps to solve of its runs, finished or begun."""
        ends = [(run.solved_at, run.steps) for run in self.seeds] + [(run.solved_at, run.steps) for run in self.begun]
        return Times.of([at for at, _ in ends], [last for _, last in ends])

    @cached_property
    def survival(self) -> Curve | None:
        """The share of runs not yet solved by step, those that did not solve censored at their last step."""
        return kaplan_meier(self.times) if self.seeds else None

    @property
    def median_steps(self) -> float | None:
        """Steps by which half of the runs had solved, or None where fewer did."""
        return median(self.times) if self.seeds else None

    def json(self) -> dict[str, Any]:
        """Plain data, with what follows from the seeds."""
        return asdict(self) | {
            "mean": self.mean, "low": self.low, "high": self.high,
            "solved": rate(sum(seed.solved for seed in self.seeds), len(self.seeds)) if self.seeds else None,
            "survival": asdict(self.survival) if self.survival else None,
            "median_steps": self.median_steps,
            "mean_steps": restricted_mean(self.survival) if self.survival else None,
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class StudyResult:
    """A study at one scale, named by its canonical spec. ``untested`` are sentences that so few runs could not show,
    whatever they did; ``seconds`` is the training time of the finished runs, controls included, each counted once;
    ``reproduce`` is the command that makes it anew; ``searched`` are the folders that were looked through,
    ``minutes_missing`` what training the missing runs takes at most (None: not known)."""

    name: str
    summary: str
    question: str
    scale: str
    cost: str
    hardware: str
    cells: tuple[CellResult, ...]
    claims: tuple[Claim, ...]
    untested: tuple[str, ...]
    runs_wanted: int
    runs_finished: int
    seconds: float
    reproduce: str
    searched: tuple[str, ...] = ()
    minutes_missing: float | None = 0.0
    warnings: tuple[str, ...] = ()
    look_ups: bool = False
    """Whether the table says when the edge look-up was found."""

    @property
    def complete(self) -> bool:
        """Whether every run is finished."""
        return self.runs_finished == self.runs_wanted

    @property
    def dirs(self) -> list[str]:
        """Every finished run's directory once, controls included."""
        return list(dict.fromkeys(seed.dir for cell in self.cells for seed in (*cell.seeds, *cell.controls)))

    def json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {"study": plain.pop("name"), "complete": self.complete} | plain | {
            "seconds": round(self.seconds, 1), "cells": [cell.json() for cell in self.cells],
            "claims": [claim.json() for claim in self.claims],
        }  # fmt: skip

    @cached_property
    def table(self) -> pandas.DataFrame:
        """Published beside measured: a row a cell, or a row a seed where one is finished."""
        import pandas

        cells = [(cell, seed) for cell in self.cells for seed in (cell.seeds or (None,))]
        of_seed = ("seed", "value", "low", "high", "n", "verdict", "inconclusive", "solved_at", "look_ups_at", "run")
        rows = [
            {"graph": cell.graph, "trained_with": cell.label, "row": cell.row, "chance": cell.chance,
             "published": cell.published_text, "tag": cell.tag, "agreement": cell.agreement,
             **{name: None if seed is None else getattr(seed, name) for name in of_seed}}
            for cell, seed in cells
        ]  # fmt: skip
        return pandas.DataFrame(rows).rename(columns={"value": "measured"})

    def __repr__(self) -> str:
        done = f"{self.runs_finished} of {self.runs_wanted} runs finished"
        return f"{self.name}, {self.scale} scale: {self.question}\n{self.table.to_string()}\n{done}"

    def _repr_html_(self) -> str:
        shown = "<br>".join(html.escape(each.sentence) for each in self.claims if each.shown)
        return f"{html.escape(self.question)}{self.table.to_html()}{shown}"


def make_claims(cells: Sequence[CellResult], baseline: str | None) -> tuple[tuple[Claim, ...], tuple[str, ...]]:
    """Claims on finished cells in the order of the table, then comparisons (with the baseline, or else with the
    controls); and the sentences that so few runs cannot show. Where runs are begun and not finished, a claim that is
    not on times would rest on those that finish early, and is not made."""
    tested = [each for cell in cells if cell.seeds and not cell.begun for each in test_side(cell)]
    tested += compare_with_controls(cells) if baseline is None else compare_with_baseline(cells, baseline)
    hopeless = [sentence for sentence, evidence in tested if evidence.least is not None and evidence.least > ALPHA]
    return tuple(correct_claims([each for each in tested if each[0] not in hopeless])), tuple(hopeless)


def test_side(cell: CellResult) -> list[Tested]:
    """What one cell was expected to show, by the published side of it."""
    counts = [(seed.value * seed.effective, seed.effective) for seed in cell.seeds]
    floor = {"solved": SOLVED, "followed": RELIABLE}.get(cell.published_side or "")
    if cell.published_side == "chance" and 0 < cell.chance < 1:
        margin = chance_margin(cell.chance)
        expected = f"lies within {margin:g} of chance ({cell.chance:.3g})"
        tests = [equivalence(right, n, cell.chance, margin) for right, n in counts]
    elif floor is not None:
        expected, tests = f"is above {floor}", [at_least(right, n, floor) for right, n in counts]
    else:
        return []
    sentence = f"{cell.graph}, {cell.label}: {cell.row} {expected} under {count_as(len(cell.seeds), 'seed')}"
    return [(sentence, max(tests, key=lambda evidence: evidence.p).as_largest_of(len(cell.seeds), "seed"))]


def compare_with_controls(cells: Sequence[CellResult]) -> list[Tested]:
    """For each label that is not its own control, over all pairs of graph and seed: whether the control gets more
    answers right, in every pair and on the whole."""
    pairs: dict[str, dict[tuple[str, str], tuple[SeedResult, SeedResult]]] = {}
    for cell in (cell for cell in cells if not cell.begun):
        controls = {control.seed: control for control in cell.controls}
        for seed in cell.seeds:
            control = controls.get(seed.seed)
            if control is not None and control.run != seed.run:
                pairs.setdefault(cell.label, {})[seed.run, control.run] = (control, seed)
    found: list[Tested] = []
    for label, of_label in pairs.items():
        each = list(of_label.values())
        models = compare_models(each)
        name = f"exact of the control (reversed) is {models.direction} that of {label}"
        found.append((f"{name} in {count_as(len(each), 'pair')} of graph and seed", models))
        if len(each) <= MOST_FLIPS:
            differences = [control.exact - seed.exact for control, seed in each]
            found.append((f"{name} over pairs of graph and seed", sign_flip(differences)))
    return found


def compare_models(pairs: Sequence[tuple[SeedResult, SeedResult]]) -> Evidence:
    """Whether one of two runs is right more often than the other, the same one in every pair."""
    # The smaller number of examples stands for both where they differ, which can only make the p-value larger.
    counts = [(one, other, min(one.exact_effective, other.exact_effective)) for one, other in pairs]
    return differ([(one.exact * n, other.exact * n, n) for one, other, n in counts]).as_largest_of(len(pairs), "pair")


def compare_with_baseline(cells: Sequence[CellResult], baseline: str) -> list[Tested]:
    """For each other label: whether its ``exact`` lies apart from the baseline's on the same test examples, and whether
    it solves sooner or later, graph by graph."""
    groups: dict[str, dict[str, CellResult]] = {}
    for cell in cells:
        if cell.row == "exact" and cell.seeds:
            groups.setdefault(cell.label, {})[cell.graph] = cell
    base = groups.pop(baseline, {})
    found: list[Tested] = []
    for label, graphs in groups.items():
        shared = [(cell, base[graph]) for graph, cell in graphs.items() if graph in base]
        for cell, other in shared:
            pairs = [(one, another) for one in cell.seeds for another in other.seeds if one.seed == another.seed]
            if pairs and not (cell.begun or other.begun):
                models, count = compare_models(pairs), count_as(len(pairs), "seed")
                sentence = f"{cell.graph}: exact of {label} is {models.direction} that of {baseline} under {count}"
                found.append((sentence, models))
        if shared:
            evidence = log_rank([(cell.times, other.times) for cell, other in shared])
            found.append(
                (f"{label} solves {'sooner' if evidence.statistic > 0 else 'later'} than {baseline}", evidence)
            )
    return found
