"""Run directories as the report reads them: JSON alone, no weights, nothing executed.

A run may be unfinished, so every file but ``spec.json`` may be missing. What is there must be right: a report drawn
from half-read measurements would look like a result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from foresee.diagnostics.base import Rows
from foresee.errors import RequestError

T = TypeVar("T")

BRANCH_POSITION = 1
"""Place of the branch token in an answer: the first token is a copy of the start."""


@dataclass(frozen=True)
class Evaluation:
    """One measurement during training: rates by name, and rates by answer position by name."""

    step: int
    rates: Mapping[str, float]
    positions: Mapping[str, tuple[float, ...]]

    def rate(self, measure: str) -> float | None:
        """The value of a learning curve at this step, or None where the objective does not give it.

        ``branch`` falls back on the free-running accuracy at the branch for objectives that cannot be forced;
        ``forced`` is the mean over answer positions.
        """
        if measure == "branch" and "branch" not in self.rates:
            free = self.positions.get("free", ())
            return free[BRANCH_POSITION] if len(free) > BRANCH_POSITION else self.rates.get("branch_free")
        if measure == "forced":
            forced = self.positions.get("forced", ())
            return sum(forced) / len(forced) if forced else None
        return self.rates.get(measure)


@dataclass(frozen=True)
class Example:
    """One test example after training, in the task's text form."""

    prompt: str
    answer: str
    wrote: str


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


def read_run(directory: Path) -> RunRecord:
    """Reads one run directory. Raises ``RequestError`` naming the file (and line) that is missing or damaged."""
    directory = Path(directory)
    if not directory.is_dir():
        raise RequestError(f"{directory}: no such run directory; give a folder that holds spec.json")
    spec = _object(directory / "spec.json", required=True)
    for key in ("task", "objective", "backbone"):
        if not isinstance(spec.get(key), str) or not spec[key]:
            raise RequestError(f"{directory / 'spec.json'}: {key!r} must be a spec string")
    if not isinstance(spec.get("seed"), int) or isinstance(spec["seed"], bool):
        raise RequestError(f"{directory / 'spec.json'}: 'seed' must be a whole number")
    rows = {name: row for read in _lines(directory / "rows.jsonl", _row) for name, row in read.items()}
    # A run that was killed while it wrote a line goes on from its checkpoint; until then the line is cut short.
    metrics = _lines(directory / "metrics.jsonl", _metric, may_be_cut=not rows)
    timing = _lines(directory / "timing.jsonl", _timing, may_be_cut=not rows)
    return RunRecord(
        directory=directory,
        spec=spec,
        environment=_object(directory / "env.json", required=False),
        evaluations=tuple(evaluation for _, evaluation in metrics if evaluation is not None),
        rows=rows,
        examples=tuple(_lines(directory / "examples.jsonl", _example)),
        steps_done=max((step for step, _ in metrics), default=0),
        examples_per_second=_median([rate for rate in timing if rate is not None]),
    )


def _object(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise RequestError(f"{path}: no such file; a run directory holds one") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(found, dict):
        raise RequestError(f"{path}: must hold one JSON object")
    return found


def _lines(path: Path, read: Callable[[dict[str, Any]], T], *, may_be_cut: bool = False) -> list[T]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    lines = text.split("\n")
    found: list[T] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            parsed = json.loads(line)
            if not isinstance(parsed, dict):
                raise ValueError("must hold one JSON object a line")
            found.append(read(parsed))
        except json.JSONDecodeError as error:
            if may_be_cut and number == len(lines):
                break
            raise RequestError(f"{path}: line {number}: not JSON: {error.msg}") from None
        except ValueError as error:
            raise RequestError(f"{path}: line {number}: {error}") from None
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Sequence[Any], what: str) -> tuple[float, ...]:
    if not all(_is_number(each) for each in value):
        raise ValueError(f"{what} must hold numbers")
    return tuple(float(each) for each in value)


def _step(line: dict[str, Any]) -> int:
    step = line.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise ValueError("'step' must be a whole number")
    return step


def _metric(line: dict[str, Any]) -> tuple[int, Evaluation | None]:
    step, measured = _step(line), line.get("eval")
    if measured is None:
        return step, None
    if not isinstance(measured, dict):
        raise ValueError("'eval' must be an object")
    rates: dict[str, float] = {}
    positions: dict[str, tuple[float, ...]] = {}
    for name, value in measured.items():
        if isinstance(value, list):
            positions[name] = _numbers(value, f"eval {name!r}")
        elif _is_number(value):
            rates[name] = float(value)
        elif value is not None:
            raise ValueError(f"eval {name!r} must be a number or a list of numbers")
    return step, Evaluation(step, rates, positions)


def _timing(line: dict[str, Any]) -> float | None:
    _step(line)
    rate = line.get("examples_per_second")
    if rate is None:
        return None
    return _numbers([rate], "'examples_per_second'")[0]


def _row(line: dict[str, Any]) -> Rows:
    name = line.get("row")
    if not isinstance(name, str):
        raise ValueError("a row needs a name under 'row'")
    parts = line["values"] if isinstance(line.get("values"), list) else [line]
    for part in parts:
        if not isinstance(part, dict) or not _is_number(part.get("value")):
            raise ValueError(f"row {name!r} needs a number under 'value', or a list of such rows under 'values'")
        _numbers([part[key] for key in ("low", "high", "n") if part.get(key) is not None], f"row {name!r}")
    if parts == [line]:
        return {name: {key: value for key, value in line.items() if key != "row"}}
    return {name: list(parts)}


def _example(line: dict[str, Any]) -> Example:
    texts = [line.get(key) for key in ("prompt", "answer", "wrote")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("an example needs the texts 'prompt', 'answer' and 'wrote'")
    return Example(*(str(text) for text in texts))


def _median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None
