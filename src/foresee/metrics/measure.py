"""Every measurement of one objective, and the few that are taken while it trains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.spec import resolve
from foresee.metrics.accuracy import Accuracy, Child
from foresee.metrics.base import Row, Rows, Subject, metrics
from foresee.metrics.decision import Branch, Decision
from foresee.metrics.intervals import is_measurement
from foresee.objectives.base import Objective
from foresee.tasks.base import Task


@contextmanager
def evaluation_mode(objective: Objective) -> Iterator[None]:
    """Evaluation mode without gradients, and back to the mode that the objective was in."""
    training = objective.training
    objective.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        objective.train(training)


def measure_all(subject: Subject) -> Rows:
    """Rows of every registered diagnostic with its default options, in the order of their names.

    Raises ``RequestError`` where two metrics give a row of the same name.
    """
    rows: Rows = {}
    giver: dict[str, str] = {}
    with evaluation_mode(subject.objective):
        for name in metrics.names():
            for row, measured in measure_one(name, subject).items():
                if row in rows:
                    raise RequestError(
                        f"metrics {giver[row]!r} and {name!r} both give a row {row!r}; one must rename its row"
                    )
                rows[row], giver[row] = measured, name
    return rows


def measure_one(name: str, subject: Subject) -> Rows:
    """Rows of one registered diagnostic. Raises ``RequestError`` where they are none that a run's folder can hold."""
    found = resolve(metrics, name).build().measure(subject)
    if not isinstance(found, dict):
        raise RequestError(f"metric {name!r} must return rows by name, not a {type(found).__name__}")
    for row, measured in found.items():
        if not isinstance(row, str):
            raise RequestError(f"metric {name!r} names a row {row!r}; names are text")
        for each in measured if isinstance(measured, list) else [measured]:
            if not is_measurement(each):
                raise RequestError(
                    f"metric {name!r} gives {each!r} for {row!r}; give what foresee.metrics.share or mean gives "
                    "(finite numbers of Python, 'value' and 'n' among them); leave out what has no meaning"
                )
    return found


QUICK = (Accuracy, Branch, Child, Decision)
QUICK_ROWS = ("exact", "branch", "margin", "decision", "rest", "forced", "free", "child")


def measure_quickly(task: Task, objective: Objective, batch: Batch, chunk: int = 1024) -> dict[str, Any]:
    """The ``eval`` object of a line in ``metrics.jsonl``: plain numbers without intervals.

    Keys ``n``, ``forced_loss`` (nats a token) and those of ``QUICK_ROWS`` (``forced`` and ``free`` are lists over
    answer positions); one that the task or the objective does not define, or that is not finite, is absent. Decodes
    once and scores once, draws nothing at random, and leaves the objective in the mode it was in.
    """
    subject = Subject(task, objective, batch, None, lambda name: torch.Generator(), chunk)
    rows: Rows = {}
    with evaluation_mode(objective):
        for metric in QUICK:
            rows |= metric().measure(subject)
        loss = math.nan if subject.scores is None else subject.scores.mean_loss()
    found: dict[str, Any] = {"n": len(batch)}
    if math.isfinite(loss):
        found["forced_loss"] = loss
    return found | {name: _values(rows[name]) for name in QUICK_ROWS if name in rows}


def _values(row: Row | list[Row]) -> Any:
    return [each["value"] for each in row] if isinstance(row, list) else row["value"]
