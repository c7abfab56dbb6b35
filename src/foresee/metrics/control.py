"""When a failure proves something: the one rule that decides whether a verdict other than solved is conclusive.

A failure says nothing about an objective while the budget may be too small, the network too shallow or training not
over. So it is in doubt (a) until the positive control has solved: reversed training on the same task, backbone and
settings; (b) while the backbone has fewer layers than the decision has hops and no objective that has to look ahead has
solved the task on it, for reversed training needs two layers at any length and so does not certify depth; (c) while the
loss was still falling; (d) once the same settings have solved in another draw, under another seed or on another device.
What is not in doubt is conclusive for this budget and no other: objectives leave their plateau late.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_FALL = 0.02
"""Least share by which the loss must fall from the third to the last quarter of training to count as falling."""
NOISE = 0.025
"""How often a loss that does not fall may be called falling."""
MORE = 2
"""Times as many steps as were too few."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What is known beside a run's own measurements."""

    control_solved: bool | None
    """Whether the positive control solved; None where it was not run."""
    control: str
    """The command that runs it, with more steps where it has not solved."""
    layers: int | None
    """Layers of the backbone, where it has such a number."""
    hops: int | None
    """``Task.hops``."""
    represented: bool
    """Whether an objective that has to look ahead has solved this task on this backbone."""
    losses: Sequence[tuple[int, float]]
    """(step, mean training loss since the report before, of what was not learned in the end), ascending."""
    solved_elsewhere: bool = False
    """Whether the same settings solved under another seed or on another device."""
    blind: float | None = None
    """Where one decision is all that was not learned: what a blind guess costs there, in nats."""


def list_doubts(known: Circumstances) -> list[str]:
    """Why a failure under these circumstances is not conclusive, each with what would settle it; none where it is."""
    doubts = []
    if known.control_solved is None:
        doubts.append(f"the positive control, reversed training, has not been run; run `{known.control}`")
    elif not known.control_solved:
        doubts.append(
            "the positive control, reversed training within the same budget, has not solved, so the budget may be too "
            f"small; give both more steps (`{known.control}`)"
        )
    shallow = describe_shallow(known.layers, known.hops)
    if shallow is not None and not known.represented:
        doubts.append(shallow)
    fall = find_fall(known.losses)
    # Above a blind guess the loss falls as the candidates are told from other symbols, which says nothing of the choice
    # between them.
    if fall is not None and (known.blind is None or fall[1] < known.blind):
        doubts.append(f"the loss was still falling ({fall[0]:.3g} to {fall[1]:.3g} over the last half); use more steps")
    if known.solved_elsewhere:
        doubts.append("the same settings solved in another draw; run more seeds, and give the share that solves")
    return doubts


def find_remedies(known: Circumstances, steps: int) -> dict[str, int]:
    """What a run of ``steps`` steps and its control need more of, ``steps`` or ``layers``, before a failure is
    conclusive; nothing where only the control is missing."""
    remedies = {}
    if known.control_solved is False or find_fall(known.losses) is not None:
        remedies["steps"] = MORE * steps
    if known.hops is not None and describe_shallow(known.layers, known.hops) is not None and not known.represented:
        remedies["layers"] = known.hops
    return remedies


def describe_shallow(layers: int | None, hops: int | None) -> str | None:
    """What is to be said of a backbone with fewer layers than the decision has hops; None where it has enough, or
    either is not known."""
    if layers is None or hops is None or layers >= hops:
        return None
    return (
        f"the backbone has {layers} layer{'s' * (layers > 1)} and the decision takes {hops} look-ups one after the "
        f"other; nothing has shown that it can represent them; use layers={hops} or more"
    )


def find_fall(losses: Sequence[tuple[int, float]]) -> tuple[float, float] | None:
    """Mean loss of the third and of the last quarter of training where it fell: by 2 % or more from one to the other,
    and as a trend over both that is no noise (the slope's t test, one-sided at 2.5 %). Where a quarter holds fewer than
    two reports there is no trend to test, and the last two reports count. None where it did not fall."""
    half = [(step, loss) for step, loss in losses if step > losses[-1][0] / 2]
    before = [loss for step, loss in half if step <= 3 * losses[-1][0] / 4]
    after = [loss for _, loss in half[len(before) :]]
    if min(len(before), len(after)) < 2:
        if len(losses) < 2:
            return None
        (_, first), (_, last) = losses[-2:]
        return (first, last) if first - last >= LEAST_FALL * first else None
    first, last = statistics.fmean(before), statistics.fmean(after)
    if first - last < LEAST_FALL * first:
        return None
    from scipy.stats import linregress  # half a second, which most calls do without

    steps, values = zip(*half, strict=True)
    return (first, last) if linregress(steps, values, alternative="less").pvalue <= NOISE else None
