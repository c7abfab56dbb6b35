"""Objectives against each other on one task: the same budget, the same seeds, and always the positive control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from foresee.core.spec import resolve
from foresee.experiments.engine import Engine
from foresee.experiments.progress import RunsProgress
from foresee.experiments.runner import run_all
from foresee.metrics.intervals import Row, rate
from foresee.metrics.verdict import SOLVED
from foresee.objectives.base import objectives
from foresee.training.run import Run
from foresee.training.settings import CONTROL, Settings


@dataclass(frozen=True)
class Group:
    """One objective's runs, a run a seed."""

    objective: str
    runs: tuple[Run, ...]

    @property
    def solved(self) -> Row:
        """Share of seeds that solved, with its Wilson interval."""
        return rate(sum(value >= SOLVED for value in self.exact), len(self.runs))

    @property
    def exact(self) -> list[float]:
        """``exact`` of each seed; a mean alone would hide that outcomes are bimodal."""
        return [value(run, "exact") for run in self.runs]

    @property
    def steps_to_solve(self) -> list[int | None]:
        """For each seed, the first evaluation during training that reached 0.95, or None where none did."""
        return [steps_to_solve(run) for run in self.runs]

    def json(self) -> dict[str, Any]:
        """One entry of ``compare --json``."""
        return {
            "objective": self.objective,
            "solved": self.solved,
            "exact": self.exact,
            "steps_to_solve": self.steps_to_solve,
            "runs": [run.json() for run in self.runs],
        }


def value(run: Run, row: str) -> float:
    """The value of a rate among a run's rows; raises ``KeyError`` where it was not measured."""
    found = run.rows[row]
    assert isinstance(found, dict)
    return float(found["value"])


def steps_to_solve(run: Run) -> int | None:
    """The step of the first evaluation during training with ``exact`` of at least 0.95."""
    return next((line["step"] for line in run.metrics if line.get("eval", {}).get("exact", 0) >= SOLVED), None)


def compare(
    settings: Settings,
    names: Sequence[str],
    seeds: int,
    root: str | Path = "runs",
    *,
    engine: str | Engine = "local",
    jobs: int | None = None,
    progress: RunsProgress | None = None,
) -> list[Group]:
    """Trains every objective under seeds 0 to ``seeds - 1``, the control first; gives them in the order of ``names``.

    ``settings`` give everything but objective and seed; the rest is as for ``run_all``.
    """
    wanted = list(dict.fromkeys(resolve(objectives, name).text for name in names))
    control = resolve(objectives, CONTROL).text
    asked = {
        name: [settings.replace(objective=name, seed=seed) for seed in range(seeds)]
        for name in (control, *wanted)  # the control keeps its place at the front
    }
    runs = iter(run_all([each for group in asked.values() for each in group], root, engine=engine, jobs=jobs,
                        progress=progress))  # fmt: skip
    groups = {name: Group(name, tuple(islice(runs, seeds))) for name in asked}
    return [groups[name] for name in dict.fromkeys([*wanted, control])]
