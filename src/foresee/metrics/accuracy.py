"""How often the answer is right: whole, by position and by step, written freely and with the truth revealed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from foresee.core.batch import NOTHING, Batch
from foresee.metrics.base import Metric, Row, Rows, Subject, metrics
from foresee.metrics.intervals import share, share_by_position
from foresee.tasks.base import Task


def right_answers(task: Task, batch: Batch, predictions: Tensor) -> Tensor:
    """[B] bool: rows of ``predictions`` [B, W] (``NOTHING`` after shorter ones) that answer their prompt.

    A row equal to the batch's answer, in length too, is right; any other is put to ``task.verify``, which settles tasks
    with several valid answers. Where the task has an ``end`` symbol, nothing is right that does not end with it, and
    where it has an ``unknown`` one, nothing that holds it.
    """
    answers = batch.padded_answers()
    width = max(answers.shape[1], predictions.shape[1])
    right = (_pad_to(predictions, width) == _pad_to(answers, width)).all(1)
    doubtful = (~right).nonzero().flatten()
    if len(doubtful):
        rows, lengths = batch.tokens[doubtful].tolist(), batch.prompt_len[doubtful].tolist()
        verified = []
        for row, length, written in zip(rows, lengths, predictions[doubtful].tolist(), strict=True):
            answer = [token for token in written if token != NOTHING]
            verified.append(is_ended(task, answer) and task.verify(row[:length], answer))
        right[doubtful] = torch.tensor(verified, device=right.device)
    return right if task.unknown is None else right & (predictions != task.unknown).all(1)


def is_ended(task: Task, answer: Sequence[int]) -> bool:
    """Whether an answer ends with the task's ``end`` symbol and holds no other, where it has one."""
    return task.end is None or (list(answer[-1:]) == [task.end] and list(answer).count(task.end) == 1)


def _pad_to(tokens: Tensor, width: int) -> Tensor:
    return functional.pad(tokens, (0, width - tokens.shape[1]), value=NOTHING)


def compounded(forced: Sequence[Row], lengths: Tensor) -> float:
    """The mean over answers of these ``lengths`` [B] of the product of ``forced`` over the positions that each has."""
    found, counts = torch.unique(lengths, return_counts=True)
    total = 0.0
    for length, count in zip(found.tolist(), counts.tolist(), strict=True):
        total += math.prod(row["value"] for row in forced[:length]) * (count / len(lengths))
    return total


@metrics.register("accuracy")
class Accuracy(Metric):
    """``exact``, ``free``, ``forced``, ``compounded`` and ``unknown``.

    * ``exact``: the greedy free-running response is right as a whole (``right_answers``).
    * ``free[i]``: token i of that response equals the answer's, over the answers that have a token i. Where a task has
      several valid answers this compares with the one that the batch holds.
    * ``forced[i]``: token i has the largest logit given the true tokens that come before it in the objective's own
      order (for a ``backward`` objective, the ones after it in the answer), over the answers that have a token i.
    * ``compounded``: the product of ``forced[i]``, which is what ``exact`` would be if errors at different positions
      were independent and merely compounded (the paper's first failure, snowballing). Where answers differ in length,
      it is the mean over answers of the product over their own positions. ``forced[i]`` is one rate for answers of all
      lengths all the same, so that where a position is harder in some lengths than in others, ``compounded`` is what
      errors would give that did not depend on the length.

    * ``unknown``: the share of test answers with a token that stands for whatever is not in the vocabulary
      (``Task.unknown``), none of which can be right; absent where there are none.

    ``forced`` and ``compounded`` are absent where the objective cannot be forced.
    """

    summary = "whole answers and single positions: written freely, and with the truth revealed"

    def measure(self, subject: Subject) -> Rows:
        batch, predictions, scores = subject.test, subject.predictions, subject.scores
        rows: Rows = {
            "exact": share(right_answers(subject.task, batch, predictions), subject.problems),
            "free": share_by_position(*compare_tokens(predictions, batch, subject.task.unknown), subject.problems),
        }
        if scores is not None:
            forced = share_by_position(scores.right, scores.mask, subject.problems)
            rows["forced"] = forced
            rows["compounded"] = {"value": compounded(forced, batch.answer_len), "n": len(batch)}
        if bool((unknown := holds_unknown(subject.task, batch)).any()):
            rows["unknown"] = share(unknown, subject.problems)
        return rows


def holds_unknown(task: Task, batch: Batch) -> Tensor:
    """[B] bool: which answers hold the task's ``unknown`` token, so that nothing is right for them."""
    return (batch.padded_answers() == (NOTHING - 1 if task.unknown is None else task.unknown)).any(1)


def compare_tokens(predictions: Tensor, batch: Batch, unknown: int | None) -> tuple[Tensor, Tensor]:
    """[B, A] bool, twice: where what was written is the answer's token, a known one, and where the answer has one."""
    answers = batch.padded_answers()
    width = answers.shape[1]
    right = _pad_to(predictions[:, :width], width) == answers
    return right if unknown is None else right & (answers != unknown), batch.answer_mask()


def are_edges(path: Tensor, arms: Tensor) -> Tensor:
    """[B, A] nodes and [B, d, l] arms -> [B, A - 1] bool: which steps follow an edge, away from the centre."""
    parents, children = arms[:, :, :-1].flatten(1), arms[:, :, 1:].flatten(1)
    leaves = path[:, :-1, None] == parents[:, None]
    reaches = path[:, 1:, None] == children[:, None]
    return (leaves & reaches).any(-1)


@metrics.register("child")
class Child(Metric):
    """``child``: the share of free-running transitions, over all rows and steps, that are edges of the graph.

    A transition leads from one written token to the next; into a task's ``end`` symbol there is none. Absent where the
    task gives no arms or nothing written has two tokens. Transitions of one problem are a cluster.
    """

    summary = "free-running steps that follow an edge of the graph"

    def measure(self, subject: Subject) -> Rows:
        arms, predictions = subject.test.facts.get("arms"), subject.predictions
        if arms is None:
            return {}
        made = predictions[:, 1:] != NOTHING
        if subject.task.end is not None:
            made &= predictions[:, 1:] != subject.task.end
        if not made.any():
            return {}
        pieces = [slice(at, at + subject.chunk) for at in range(0, len(arms), subject.chunk)]
        edges = torch.cat([are_edges(predictions[piece], arms[piece]) for piece in pieces])
        return {"child": share(edges[made], subject.problems[:, None].expand_as(made)[made])}


@metrics.register("plateau")
class Plateau(Metric):
    """``plateau``: forced loss per answer token in nats beside the task's reference, ``ln(d)/l`` on path-star.

    Training that has learned the shortcut and nothing else rests at the reference. The row has no
    ``reference`` where the task defines none; it is absent where the objective cannot be forced or its loss is not
    finite.
    """

    summary = "forced loss beside the loss of a perfect shortcut with a blind decision"

    def measure(self, subject: Subject) -> Rows:
        if subject.scores is None:
            return {}
        value = subject.scores.mean_loss()
        if not math.isfinite(value):
            return {}
        row: Row = {"value": value, "n": len(subject.test)}
        if subject.task.plateau is not None:
            row["reference"] = subject.task.plateau
        return {"plateau": row}
