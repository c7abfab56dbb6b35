"""Objectives against each other on one task: the same budget, the same seeds, and always the positive control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresee.core.spec import resolve
from foresee.metrics.intervals import Row, rate
from foresee.metrics.verdict import SOLVED
from foresee.objectives.base import objectives
from foresee.training.loop import train
from foresee.training.progress import Progress
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
    spec: Settings, names: Sequence[str], seeds: int, root: str | Path = "runs", progress: Progress | None = None
) -> list[Group]:
    """Trains every objective under seeds 0 to ``seeds - 1``, the control first, and returns them in the order given.

    ``spec`` gives everything but objective and seed. Finished runs under ``root`` are not run again.
    """
    wanted = list(dict.fromkeys(resolve(objectives, name).text for name in names))
    control = resolve(objectives, CONTROL).text
    order = [control, *(name for name in wanted if name != control)]
    # All of it is checked before any of it is trained.
    runs = {name: [spec.replace(objective=name, seed=seed) for seed in range(seeds)] for name in order}
    for specs in runs.values():
        specs[0].build_objective(specs[0].build_task())
    done = {name: Group(name, tuple(train(each, root, progress) for each in specs)) for name, specs in runs.items()}
    return [done[name] for name in [*wanted, *([] if control in wanted else [control])]]
