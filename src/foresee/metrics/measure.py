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
from foresee.metrics.accuracy import Accuracy
from foresee.metrics.base import Row, Rows, Subject, metrics
from foresee.metrics.branch import Branch
from foresee.metrics.child import Child
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
            for row, measured in resolve(metrics, name).build().measure(subject).items():
                if row in rows:
                    raise RequestError(
                        f"metrics {giver[row]!r} and {name!r} both give a row {row!r}; one must rename its row"
                    )
                rows[row], giver[row] = measured, name
    return rows


def measure_quickly(task: Task, objective: Objective, batch: Batch, chunk: int = 1024) -> dict[str, Any]:
    """The ``eval`` object of a line in ``metrics.jsonl``: plain numbers without intervals.

    Keys ``n``, ``exact``, ``branch``, ``forced_loss`` (nats a token), ``forced`` and ``free`` (lists over answer
    positions) and ``child``; one that the task or the objective does not define, or that is not finite, is absent.
    Decodes once and scores once, draws nothing at random, and leaves the objective in the mode it was in.
    """
    subject = Subject(task, objective, batch, None, torch.Generator(), chunk)
    with evaluation_mode(objective):
        rows = Accuracy().measure(subject) | Branch().measure(subject) | Child().measure(subject)
        loss = None if subject.scores is None else subject.scores.mean_loss()
    found: dict[str, Any] = {"n": len(batch)}
    for name in ("exact", "branch", "forced_loss", "forced", "free", "child"):
        if name in rows:
            found[name] = _values(rows[name])
        elif name == "forced_loss" and loss is not None and math.isfinite(loss):
            found[name] = loss
    return found


def _values(row: Row | list[Row]) -> Any:
    return [each["value"] for each in row] if isinstance(row, list) else row["value"]
