"""The data behind the figures: what groups of runs measured, as the DataFrames that ``foresee.report.charts`` draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Any

import pandas as pd

from foresee.experiments.studies.result import StudyResult
from foresee.metrics.survival import kaplan_meier
from foresee.report.charts import MEASURES
from foresee.report.groups import BRANCH_PLACE, Group, values_of
from foresee.report.star import nodes_of
from foresee.training.records import value_of
from foresee.training.run import Run

MOST_POINTS = 60
"""Points of a line beyond which some are left out."""


def _frame(rows: Iterable[tuple[Any, ...]], columns: str) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns.split())


def _thinned(points: Sequence[Any]) -> list[Any]:
    """Every n-th point, and the last."""
    stride = -(-len(points) // MOST_POINTS) or 1
    return [*points[:-1:stride], *points[-1:]]


def _value_of(run: Run, seen: Mapping[str, Any], measure: str) -> float | None:
    """A measure of one evaluation; None where the objective does not give it. ``branch`` is the free-running decision
    of an objective that cannot be forced; ``forced`` is the mean over answer positions."""
    if measure == "branch" and "branch" not in seen:
        # Runs of older versions do not say the decision; only where path-star has it is known.
        free = seen.get("free", []) if run.spec.task.partition(":")[0] == "path-star" else []
        return next((value for value in (seen.get("decision"), *free[BRANCH_PLACE:]) if value is not None), None)
    if measure == "forced":
        forced = seen.get("forced")
        return sum(forced) / len(forced) if forced else None
    found: float | None = seen.get(measure)
    return found


def curves(groups: Sequence[Group]) -> pd.DataFrame:
    """Learning curves: objective, seed, step, measure, value."""
    return _frame(
        (
            (group.label, run.spec.seed, line["step"], measure, round(value, 4))
            for group in groups for run in group.runs for measure in MEASURES for line in _thinned(run.metrics)
            if (value := _value_of(run, line["eval"], measure)) is not None
        ),
        "objective seed step measure value",
    )  # fmt: skip


def positions(groups: Sequence[Group]) -> pd.DataFrame:
    """Accuracy by answer position: objective, seed, kind, position, value."""
    return _frame(
        (
            (group.label, run.spec.seed, kind, at, round(value, 4))
            for group in groups for run in group.finished
            for kind, row in (("forced", "forced"), ("free-running", "free"))
            for at, value in enumerate(values_of(run, row), start=1)
        ),
        "objective seed kind position value",
    )  # fmt: skip


def survival(groups: Sequence[Group]) -> pd.DataFrame:
    """Kaplan-Meier curves: objective, step, share, low, high, ended."""
    rows: list[tuple[Any, ...]] = []
    for name, found in ((group.label, group.times) for group in groups):
        if found is None:
            continue
        curve = kaplan_meier(found)
        points = [(0.0, 1.0, 1.0, 1.0), *zip(curve.at, curve.share, curve.low, curve.high, strict=True)]
        ended = {time for time, came in zip(found.times, found.came, strict=True) if not came}
        for step in sorted({*(point[0] for point in points), *ended, curve.end}):
            at = next(point for point in reversed(points) if point[0] <= step)
            rows.append((name, step, *(round(each, 4) for each in at[1:]), step in ended))
    return _frame(rows, "objective step share low high ended")


def supervision(group: Group) -> pd.DataFrame:
    """At each step the share of each answer position in the loss summed over positions, and that position's loss in
    nats, means over the seeds that reported then: objective, step, position, share, nats. Empty where no run says its
    loss by position."""
    by_step: dict[int, list[Sequence[float | None]]] = {}
    for line in (line for run in group.runs for line in run.metrics if line.get("position_loss")):
        by_step.setdefault(line["step"], []).append(line["position_loss"])
    count = max((len(nats) for found in by_step.values() for nats in found), default=0)
    rows = []
    for step in _thinned(sorted(by_step)):
        by_place = [[nats[at] for nats in by_step[step] if at < len(nats)] for at in range(count)]
        known = [[each for each in found if each is not None] for found in by_place]
        # A likelihood can give a loss a little below 0 (smoothing); it takes no share then, nor does an unused place.
        means = [max(0.0, fsum(found) / len(found)) if found else 0.0 for found in known]
        total = fsum(means)
        rows += [(group.label, step, at, round(mean / total, 4), round(mean, 4))
                 for at, mean in enumerate(means, start=1) if total > 0]  # fmt: skip
    return _frame(rows, "objective step position share nats")


def costs(groups: Sequence[Group]) -> pd.DataFrame:
    """What runs cost and came to: objective, seed, seconds, exact."""
    return _frame(
        (
            (group.label, run.spec.seed, round(run.seconds, 1), round(value_of(run.rows), 4))
            for group in groups for run in group.finished if run.timing
        ),
        "objective seed seconds exact",
    )  # fmt: skip


def attention(anatomy: Mapping[str, Any]) -> pd.DataFrame:
    """What the position that decides the branch reads: head, read, weight. Empty where there is no attention."""
    found = anatomy.get("attention") or {"read": [], "layers": []}
    return _frame(
        (
            (f"{layer}.{head}", f"{at:04} {symbol}", round(weight, 2))
            for layer, heads in enumerate(found["layers"], start=1) for head, weights in enumerate(heads, start=1)
            for at, (symbol, weight) in enumerate(zip(found["read"], weights, strict=True))
        ),
        "head read weight",
    )  # fmt: skip


def probabilities(anatomy: Mapping[str, Any], mode: str) -> pd.DataFrame:
    """The likeliest symbols at each place, in ``mode`` "free" or "truth": place, rank, symbol, p, right."""
    answer = nodes_of(anatomy["answer"])
    return _frame(
        (
            (at, rank, symbol, p, symbol == (answer[at - 1] if at <= len(answer) else None))
            for at, step in enumerate(anatomy[mode], start=1) for rank, (symbol, p) in enumerate(step["top"], start=1)
        ),
        "place rank symbol p right",
    )  # fmt: skip


def study_cells(study: StudyResult) -> pd.DataFrame:
    """Published beside measured: cell, kind, seed, value, low, high."""
    rows: list[tuple[Any, ...]] = []
    for cell in study.cells:
        name = f"{cell.graph} · {cell.label} · {cell.row}"
        rows.append((name, "chance", None, cell.chance, None, None))
        if cell.published_low is not None:
            rows.append((name, "published", None, cell.published, cell.published_low, cell.published_high))
        rows += [(name, "seed", seed.seed, seed.value, seed.low, seed.high) for seed in cell.seeds]
    return _frame(rows, "cell kind seed value low high")
