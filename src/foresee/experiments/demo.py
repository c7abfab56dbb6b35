"""The paper's claim in a few minutes: the failure, the control, and a repair.

Next-token training on G(2, 5) shows the failure, reversed training that the task can be learned within the budget. Six
layers are more than the four look-ups that the decision takes one after the other, so that the failure is not one of
depth. Teacherless training then writes a path forwards. It takes longest, so it is given the largest graph that it
solves within minutes (docs/log.md has what was tried).

Networks as narrow as these gain little from a second core, so the runs go beside each other, on one core each. That
also makes their numbers the same on any number of cores.
"""

from __future__ import annotations

from pathlib import Path

from foresee.experiments.engine import Engine
from foresee.experiments.progress import RunsProgress
from foresee.experiments.runner import run_all
from foresee.training.run import Run
from foresee.training.settings import Settings

GRAPH = "path-star:degree=2,length=5,nodes=50"
TEACHERLESS_GRAPH = "path-star:degree=2,length=4,nodes=50"
TEACHERLESS_BACKBONE = "transformer:layers=8,width=128,heads=4"
TEACHERLESS_SEED = 1
"""One of the quicker seeds, so that the demo stays short; others take up to twice as long (docs/log.md)."""


def demo_settings() -> list[Settings]:
    """The demo's runs: the failure, the control and the repair."""
    failure = Settings.of(GRAPH, "next-token", until_solved=True)
    teacherless = Settings.of(
        TEACHERLESS_GRAPH, "teacherless", TEACHERLESS_BACKBONE, seed=TEACHERLESS_SEED, steps=3500, batch=256,
        data="fresh", until_solved=True, test=20_000,
    )  # fmt: skip
    return [failure, failure.control(), teacherless]


def demo(
    root: Path, *, engine: str | Engine = "local", jobs: int | None = None, progress: RunsProgress | None = None
) -> list[Run]:
    """Trains what is not yet trained under ``root``, and gives failure, control and repair; as ``run_all``."""
    # The longest goes first, so that the others are done beside it.
    runs = run_all(demo_settings()[::-1], root, engine=engine, jobs=jobs, progress=progress)
    return runs[::-1]
