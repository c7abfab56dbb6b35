"""The paper's claim in a few minutes: the failure, the control, a repair forwards, and the paper's own cure.

Next-token training on G(2, 5) shows the failure, reversed training that the task can be learned within the budget, and
belief-state training the repair: on the same graph, with the same network, it writes the path forwards. Six layers are
more than the four look-ups that the decision takes one after the other, so that the failure is not one of depth.
Teacherless training, the paper's cure, takes much longer on that graph, so it is given the largest one that it solves
within the time (docs/log.md has what was tried), with next-token and the control beside it there, on one network.

Networks as narrow as these gain little from a second core, so the runs go beside each other, on one core each. That
also makes their numbers the same on any number of cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Unpack

from foresee.experiments.runner import TrainingOptions, run_all
from foresee.training.run import Run
from foresee.training.settings import Settings

GRAPH, SMALL_GRAPH = "path-star", "path-star:length=3"
LEARNED_POSITIONS = "transformer:layers=4,width=128,heads=4"
"""With which teacherless training finds the way soonest; four layers are two more than the small graph's look-ups."""


def demo_settings() -> list[Settings]:
    """The demo's runs: failure, control and repair on one graph, then failure and cure on a smaller one."""
    failure = Settings.of(GRAPH, "next-token", until_solved=True)
    repair = Settings.of(
        GRAPH, "belief-state", lr=1e-3, data="fresh", steps=2000, eval_every=100, until_solved=True
    )  # fmt: skip
    small = Settings.of(
        SMALL_GRAPH, "next-token", LEARNED_POSITIONS, lr=1e-3, data="fresh", steps=1000, eval_every=100,
        until_solved=True,
    )  # fmt: skip
    cure = small.replace(objective="teacherless", steps=2500)
    return [failure, failure.control(), repair, small, small.control(), cure]


def demo(root: Path, **how: Unpack[TrainingOptions]) -> list[Run]:
    """Trains what is not yet trained under ``root``, and gives its runs in the order of ``demo_settings``."""
    asked = demo_settings()
    # The longest go first, so that the others are done beside them.
    order = sorted(asked, key=lambda each: -each.steps)
    runs = {run.spec: run for run in run_all(order, root, **how)}
    return [runs[each] for each in asked]


def choose_pictured(runs: Sequence[Run]) -> list[Path]:
    """The folders of the first run of each objective: one line each in a picture. What the small graph repeats, its
    failure and control, is on the page."""
    first: dict[str, Path] = {}
    for run in runs:
        first.setdefault(run.spec.objective, run.dir)
    return list(first.values())
