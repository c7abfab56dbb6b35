"""Where the supervision goes: which answer positions the training loss comes from, over training."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import fsum

from foresee.report.groups import Group

MOST_REPORTS = 60
"""Reports beyond which some are left out of a chart."""


@dataclass(frozen=True)
class Supervision:
    """Of one group: at each step, the share of each answer position in the loss summed over positions, and that sum in
    nats. Losses are means over seeds that reported at the step."""

    steps: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    nats: tuple[float, ...]
    seeds: int


def supervision_of(group: Group) -> Supervision | None:
    """None where no run of the group says its loss by position (older runs), or none has any."""
    by_step: dict[int, list[tuple[float | None, ...]]] = defaultdict(list)
    told = [run.record for run in group.runs if run.record.position_losses]
    for record in told:
        for each in record.position_losses:
            by_step[each.step].append(each.nats)
    count = max((len(nats) for found in by_step.values() for nats in found), default=0)
    steps, shares, totals = [], [], []
    for step in sorted(by_step):
        means = [_mean([nats[place] for nats in by_step[step] if place < len(nats)]) for place in range(count)]
        # A likelihood can give a loss a little below 0 (smoothing); it takes no share then.
        means = [max(0.0, each) for each in means]
        total = fsum(means)
        if total > 0:
            steps.append(float(step))
            shares.append(tuple(each / total for each in means))
            totals.append(total)
    if not steps:
        return None
    stride = -(-len(steps) // MOST_REPORTS)
    kept = sorted({*range(0, len(steps), stride), len(steps) - 1})
    return Supervision(
        tuple(steps[at] for at in kept), tuple(shares[at] for at in kept), tuple(totals[at] for at in kept), len(told)
    )


def _mean(values: list[float | None]) -> float:
    """Zero where no seed has any: a position that no answer had gives no loss."""
    found = [value for value in values if value is not None]
    return fsum(found) / len(found) if found else 0.0
