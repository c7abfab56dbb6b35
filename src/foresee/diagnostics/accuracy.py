"""How often the answer is right: whole and by position, written freely and with the truth revealed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from foresee.batch import Batch
from foresee.diagnostics.base import Diagnostic, Rows, Subject, diagnostics
from foresee.diagnostics.passes import share, share_by_position
from foresee.tasks.base import Task


def right_answers(task: Task, batch: Batch, wrote: Tensor) -> Tensor:
    """[B] bool: rows of ``wrote`` [B, A] that answer their prompt.

    A row equal to the batch's answer is right; any other is put to ``task.verify``, which settles tasks with several
    valid answers.
    """
    right = (wrote == batch.answers).all(1)
    doubtful = (~right).nonzero().flatten()
    if len(doubtful):
        pairs = zip(batch.prompts[doubtful].tolist(), wrote[doubtful].tolist(), strict=True)
        verified = [task.verify(prompt, answer) for prompt, answer in pairs]
        right[doubtful] = torch.tensor(verified, device=right.device)
    return right


@diagnostics.register("accuracy")
class Accuracy(Diagnostic):
    """``exact``, ``free``, ``forced`` and ``compounded``.

    * ``exact``: the greedy free-running response is right as a whole (``right_answers``).
    * ``free[i]``: token i of that response equals the answer's. Where a task has several valid answers this compares
      with the one that the batch holds.
    * ``forced[i]``: token i has the largest logit given the true tokens that come before it in the objective's own
      order (for a ``backward`` objective, the ones after it in the answer).
    * ``compounded``: the product of ``forced[i]``, which is what ``exact`` would be if errors at different positions
      were independent and merely compounded (the paper's first failure, snowballing).

    ``forced`` and ``compounded`` are absent where the objective cannot be forced.
    """

    summary = "whole answers and single positions: written freely, and with the truth revealed"

    def measure(self, subject: Subject) -> Rows:
        batch, wrote, scores = subject.test, subject.wrote, subject.scores
        rows: Rows = {
            "exact": share(right_answers(subject.task, batch, wrote)),
            "free": share_by_position(wrote == batch.answers),
        }
        if scores is not None:
            forced = share_by_position(scores.right)
            rows["forced"] = forced
            rows["compounded"] = {"value": math.prod(row["value"] for row in forced), "n": len(batch)}
        return rows
