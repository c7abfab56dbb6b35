"""Run directories as the report reads them: JSON alone, no weights, nothing executed.

A run may be unfinished, so every file but ``spec.json`` may be missing. What is there must be right: a report drawn
from half-read measurements would look like a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresee.core.errors import RequestError
from foresee.metrics.base import Rows
from foresee.report.dissected import Anatomy, read_anatomies
from foresee.report.lines import (
    BRANCH_POSITION,
    Evaluation,
    Example,
    PositionLoss,
    read_example,
    read_metric,
    read_row,
    read_timing,
)
from foresee.report.parameters import parameters_of
from foresee.report.reading import read_lines, read_object

__all__ = [
    "BRANCH_POSITION", "Evaluation", "Example", "PositionLoss", "RunRecord", "read_run", "read_runs",
]  # fmt: skip


@dataclass(frozen=True)
class RunRecord:
    """Everything of one run directory that a report shows."""

    directory: Path
    spec: Mapping[str, Any]
    environment: Mapping[str, Any]
    evaluations: tuple[Evaluation, ...]
    rows: Rows
    examples: tuple[Example, ...]
    steps_done: int
    examples_per_second: float | None
    """The median over reports."""
    seconds: float | None
    """Training time up to the last report, evaluation included."""
    position_losses: tuple[PositionLoss, ...]
    anatomies: tuple[Anatomy, ...]
    parameters: int | None
    """Trained numbers of the saved model, or what the run recorded; None where neither is there."""

    @property
    def task(self) -> str:
        return str(self.spec["task"])

    @property
    def objective(self) -> str:
        return str(self.spec["objective"])

    @property
    def backbone(self) -> str:
        return str(self.spec["backbone"])

    @property
    def seed(self) -> int:
        return int(self.spec["seed"])

    @property
    def finished(self) -> bool:
        return bool(self.rows)

    def value(self, row: str) -> float | None:
        """The value of a scalar row, or None where it was not measured."""
        found = self.rows.get(row)
        return float(found["value"]) if isinstance(found, dict) else None

    def values(self, row: str) -> tuple[float, ...]:
        """The values of a list row in the task's order; empty where it was not measured."""
        found = self.rows.get(row)
        return tuple(float(each["value"]) for each in found) if isinstance(found, list) else ()


def read_runs(directories: Sequence[Path]) -> tuple[tuple[RunRecord, ...], tuple[str, ...]]:
    """Every run that can be read, each once, in the order given, and a sentence on each that is damaged. Raises
    ``RequestError`` where a directory does not exist, and where directories were given but none can be read."""
    found: list[RunRecord] = []
    damaged: list[str] = []
    for directory in dict.fromkeys(Path(path).resolve() for path in directories):
        if not directory.is_dir():
            raise RequestError(f"{directory}: no such run directory; give a folder that holds spec.json")
        try:
            found.append(read_run(directory))
        except RequestError as error:
            damaged.append(str(error))
    if damaged and not found:
        raise RequestError(damaged[0])
    return tuple(found), tuple(damaged)


def read_run(directory: Path) -> RunRecord:
    """Reads one run directory. Raises ``RequestError`` naming the file (and line) that is missing or damaged."""
    directory = Path(directory)
    if not directory.is_dir():
        raise RequestError(f"{directory}: no such run directory; give a folder that holds spec.json")
    spec = read_object(directory / "spec.json", required=True)
    for key in ("task", "objective", "backbone"):
        if not isinstance(spec.get(key), str) or not spec[key]:
            raise RequestError(f"{directory / 'spec.json'}: {key!r} must be a spec string")
    if not isinstance(spec.get("seed"), int) or isinstance(spec["seed"], bool):
        raise RequestError(f"{directory / 'spec.json'}: 'seed' must be a whole number")
    rows = {name: row for read in read_lines(directory / "rows.jsonl", read_row) for name, row in read.items()}
    environment = read_object(directory / "env.json", required=False)
    # A run that was killed while it wrote a line goes on from its checkpoint; until then the line is cut short.
    metrics = read_lines(directory / "metrics.jsonl", read_metric, may_be_cut=not rows)
    timing = read_lines(directory / "timing.jsonl", read_timing, may_be_cut=not rows)
    return RunRecord(
        directory=directory,
        spec=spec,
        environment=environment,
        evaluations=tuple(each.evaluation for each in metrics if each.evaluation is not None),
        rows=rows,
        examples=tuple(read_lines(directory / "examples.jsonl", read_example)),
        steps_done=max((each.step for each in metrics), default=0),
        examples_per_second=_median([rate for rate, _ in timing if rate is not None]),
        seconds=max((seconds for _, seconds in timing if seconds is not None), default=None),
        position_losses=tuple(each.loss for each in metrics if each.loss is not None),
        anatomies=read_anatomies(directory / "anatomy.json"),
        parameters=parameters_of(environment, directory / "model.safetensors"),
    )


def _median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None
