"""What a diagnostic is: it looks at a trained objective and returns rows of measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy
import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.core.registry import Registry
from foresee.metrics.intervals import Row
from foresee.metrics.passes import Scores, predict_answers, score_answers, split_chunks
from foresee.objectives.base import Objective
from foresee.tasks.base import Task

__all__ = ["Metric", "Row", "Rows", "Subject", "metrics"]

Rows = dict[str, Row | list[Row]]
"""Measurements by name; a list holds one row an answer position, in the task's own order."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured: a task, an objective in evaluation mode, test examples, and training examples where there are
    any to compare with.

    Batches lie on the objective's device; their rows may differ in length. ``stream`` gives a random stream of a
    metric's own by its name, so that what one draws changes nothing for another. ``chunk`` is how many rows are put
    through the objective at a time. Raises ``RequestError`` on an empty test set or a ``chunk`` below 1.
    """

    task: Task
    objective: Objective
    test: Batch
    train: Batch | None
    stream: Callable[[str], torch.Generator]
    chunk: int = 1024
    trained: Callable[[], Fingerprints] | None = None
    """Gives the identities of all problems that were trained on, each once; None where they are not known."""

    def __post_init__(self) -> None:
        if len(self.test) == 0:
            raise RequestError("the test set holds no examples; measuring takes at least one")
        if self.chunk < 1:
            raise RequestError(f"evaluation chunk of {self.chunk} rows: must be at least 1")

    def chunks(self, batch: Batch) -> list[Batch]:
        """``batch`` in pieces of at most ``chunk`` rows, so that memory stays bounded."""
        return split_chunks(batch, self.chunk)

    @cached_property
    def problems(self) -> Tensor:
        """[B]: a number of the problem behind each test row, the unit that rates and intervals count."""
        return number_problems(self.task, self.test)

    @cached_property
    def predictions(self) -> Tensor:
        """[B, A]: greedy free-running answers to the test prompts, decoded once for all metrics; ``NOTHING`` follows
        shorter ones (``passes.predict_answers``)."""
        return predict_answers(self.objective, self.test, self.chunk, self.task)

    @cached_property
    def scores(self) -> Scores | None:
        """Test answers scored with the truth revealed, once for all metrics; None where that is undefined."""
        return score_answers(self.objective, self.test, self.chunk, self.task.unknown)

    @cached_property
    def decided(self) -> Tensor:
        """[K]: numbers of the test rows that hold a decision (a fact ``branch`` that is not negative); none where the
        task has no such fact."""
        branch = self.test.facts.get("branch")
        rows = torch.zeros(0, dtype=torch.int64, device=self.test.tokens.device)
        return rows if branch is None else (branch >= 0).nonzero().flatten()

    def distributions(self) -> Iterator[tuple[Batch, Tensor]]:
        """The test examples in uniform pieces, each with the log-probabilities [B, A, V] of its answer tokens given the
        truth so far; only one piece is held at a time. Nothing where the objective cannot be forced."""
        for _, part in self.test.uniform_parts():
            for piece in self.chunks(part):
                log_probs = self.objective.forced(piece)
                if log_probs is None:
                    return
                yield piece, log_probs.float()


def number_problems(task: Task, batch: Batch) -> Tensor:
    """[B] int64 on the batch's device: rows of one problem (``Task.identity``) have one number."""
    _, numbers = numpy.unique(task.identity(batch), return_inverse=True)
    return torch.from_numpy(numbers).to(batch.tokens.device)


class Metric(ABC):
    """One measurement, or a few that are taken together. Constructor parameters by keyword: its options."""

    summary: ClassVar[str]
    """One line for ``foresee list``."""

    @abstractmethod
    def measure(self, subject: Subject) -> Rows:
        """Rows by name; a row that has no meaning for this objective or task is absent, never zero."""


metrics: Registry[Metric] = Registry("metric", "foresee.metrics", Metric)
