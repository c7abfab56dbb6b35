"""The lines of a run's files as what they mean. Each reader raises ``ValueError`` on a line that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from foresee.metrics.base import Row, Rows
from foresee.report.reading import is_number, numbers

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
class PositionLoss:
    """Mean training loss, in nats, of each answer token since the last report; None at a position that no answer
    had."""

    step: int
    nats: tuple[float | None, ...]


@dataclass(frozen=True)
class Example:
    """One test example after training, in the task's text form."""

    prompt: str
    answer: str
    wrote: str


def _step(line: dict[str, Any]) -> int:
    step = line.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise ValueError("'step' must be a whole number")
    return step


@dataclass(frozen=True)
class Metric:
    """A line of ``metrics.jsonl``."""

    step: int
    evaluation: Evaluation | None
    loss: PositionLoss | None


def read_metric(line: dict[str, Any]) -> Metric:
    """A line of ``metrics.jsonl``; older runs have no ``position_loss``."""
    step, measured, nats = _step(line), line.get("eval"), line.get("position_loss")
    loss = None
    if nats is not None:
        if not isinstance(nats, list):
            raise ValueError("'position_loss' must be a list of numbers")
        numbers([each for each in nats if each is not None], "'position_loss'")
        loss = PositionLoss(step, tuple(None if each is None else float(each) for each in nats))
    if measured is None:
        return Metric(step, None, loss)
    if not isinstance(measured, dict):
        raise ValueError("'eval' must be an object")
    rates: dict[str, float] = {}
    positions: dict[str, tuple[float, ...]] = {}
    for name, value in measured.items():
        if isinstance(value, list):
            positions[name] = numbers(value, f"eval {name!r}")
        elif is_number(value):
            rates[name] = float(value)
        elif value is not None:
            raise ValueError(f"eval {name!r} must be a number or a list of numbers")
    return Metric(step, Evaluation(step, rates, positions), loss)


def read_timing(line: dict[str, Any]) -> tuple[float | None, float | None]:
    """Examples a second since the last line of ``timing.jsonl``, and seconds since the start."""
    _step(line)
    rate, seconds = line.get("examples_per_second"), line.get("seconds")
    return (
        None if rate is None else numbers([rate], "'examples_per_second'")[0],
        None if seconds is None else numbers([seconds], "'seconds'")[0],
    )


def read_row(line: dict[str, Any]) -> Rows:
    """A line of ``rows.jsonl``: a measurement, or a list of them under ``values``, by its name."""
    name = line.get("row")
    if not isinstance(name, str):
        raise ValueError("a row needs a name under 'row'")
    parts = line["values"] if isinstance(line.get("values"), list) else [line]
    for part in parts:
        if not isinstance(part, dict) or not is_number(part.get("value")):
            raise ValueError(f"row {name!r} needs a number under 'value', or a list of such rows under 'values'")
        numbers([part[key] for key in ("low", "high", "n") if part.get(key) is not None], f"row {name!r}")
    if parts == [line]:
        return {name: cast(Row, {key: value for key, value in line.items() if key != "row"})}
    return {name: cast(list[Row], list(parts))}


def read_example(line: dict[str, Any]) -> Example:
    """A line of ``examples.jsonl``."""
    texts = [line.get(key) for key in ("prompt", "answer", "wrote")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("an example needs the texts 'prompt', 'answer' and 'wrote'")
    return Example(*(str(text) for text in texts))
