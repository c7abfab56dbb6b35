"""The two passes over a batch that most diagnostics share: writing freely, and scoring with the truth revealed.

Both run in chunks of rows and keep only [B, A] reductions, on the batch's device; [B, A, V] never exists for more than
one chunk. Rows that differ in length are taken one length at a time and put back in their places. Where they do not,
nothing waits for the device until a diagnostic reads its sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foresee.core.batch import NOTHING, Batch
from foresee.objectives.base import Objective
from foresee.tasks.base import Task


@dataclass(frozen=True)
class Scores:
    """How each answer token fared with the true answer revealed so far, in the objective's own order of decision.

    Columns are in the task's order, whatever order the objective decides in; A is that of the longest answer. Where an
    answer is shorter, ``mask`` is false, ``right`` is too, and the others are 0.
    """

    right: Tensor
    """[B, A] bool: the true token has the largest logit (the first of equal ones counts as largest, as in decoding)."""
    loss: Tensor
    """[B, A] float32: minus the log-probability of the true token, in nats."""
    margin: Tensor
    """[B, A] float32: the true token's logit minus the best other one's, in nats."""
    mask: Tensor
    """[B, A] bool: which places hold a token of the answer."""
    stops: Tensor | None = None
    """[B, A] float32: the part of ``loss`` that says where the answer ends, which is minus the log-probability of the
    symbol that closes it, or before it of any other. None where there is no such symbol."""

    def mean_loss(self) -> float:
        """Mean over all answer tokens, in nats a token."""
        return float(self.loss[self.mask].cpu().mean(dtype=torch.float64))


def split_chunks(batch: Batch, chunk: int) -> list[Batch]:
    """``batch`` in pieces of at most ``chunk`` rows."""
    return [batch.rows(slice(at, at + chunk)) for at in range(0, len(batch), chunk)]


@torch.inference_mode()
def predict_answers(objective: Objective, batch: Batch, chunk: int, task: Task | None = None) -> Tensor:
    """[B, A]: the objective's greedy answers to the prompts of a batch; ``NOTHING`` follows shorter ones.

    Each answer is as long as the true one. Where ``task`` has an ``end`` symbol, a forward objective is not told that
    length: it writes up to ``task.answer_length`` tokens and stops at the symbol, its last token then. An objective
    that decides in another order needs to know where an answer ends before it writes any of it, and is told.
    """
    end = task.end if task is not None and objective.order == "forward" else None
    if batch.layout.uniform and end is None:
        return _predict(objective, batch, chunk)
    if objective.order == "parallel" or objective.needs_length:
        return _scatter(batch, [(index, _predict(objective, part, chunk)) for index, part in batch.uniform_parts()])
    parts = []
    for index, part in split_by_prompt(batch):
        most = part.layout.width if task is None or end is None else task.answer_length
        predictions = torch.cat([objective.generate(piece.prompts, most) for piece in split_chunks(part, chunk)])
        if end is None:
            parts.append((index, _crop(predictions, batch.answer_len[index], objective.order)))
        else:
            parts.append((index, stop_at_end(predictions, end)))
    return _scatter(batch, parts)


def split_by_prompt(batch: Batch) -> list[tuple[Tensor, Batch]]:
    """The rows of each prompt length beside their numbers, as uniform batches whose answers are as long as the longest
    of them; padding follows shorter ones.

    There are far fewer prompt lengths than pairs of prompt and answer length, so this is what makes measuring rows of a
    user's own quick. It serves an objective that does not need the length: what it writes first does not depend on how
    much it is asked for, nor a score on what follows (both are tested for every objective).
    """
    parts = []
    for index, prompts in Batch.of(batch.tokens, batch.prompt_len, 0).uniform_parts():
        first, answers = prompts.layout.first, batch.answer_len[index]
        tokens = batch.tokens[index]
        parts.append((index, Batch.of(tokens[:, : first + int(answers.max())], first, int(answers.max()))))
    return parts


def _crop(predictions: Tensor, lengths: Tensor, order: str) -> Tensor:
    """[B, A] of which each row's own length [B] is kept, ``NOTHING`` after it: what was written first, which are the
    last columns where an answer is written backwards."""
    columns = torch.arange(predictions.shape[1], device=predictions.device)
    if order == "backward":
        source = columns + (predictions.shape[1] - lengths)[:, None]
        predictions = predictions.gather(1, source.clamp(max=predictions.shape[1] - 1))
    return predictions.masked_fill(columns >= lengths[:, None], NOTHING)


def _predict(objective: Objective, batch: Batch, chunk: int) -> Tensor:
    pieces = split_chunks(batch, chunk)
    return torch.cat([objective.generate(piece.prompts, piece.layout.width) for piece in pieces])


def stop_at_end(predictions: Tensor, end: int) -> Tensor:
    """[B, A] tokens with ``NOTHING`` in place of all that follow a row's first ``end``."""
    ends = (predictions == end).int()
    return predictions.masked_fill(ends.cumsum(1) > ends, NOTHING)


def _scatter(batch: Batch, parts: list[tuple[Tensor, Tensor]], blank: float = NOTHING) -> Tensor:
    """[B, A] from the rows [B', A'] of each part; ``blank`` fills those that are shorter."""
    if len(parts) == 1:
        return parts[0][1]
    whole = parts[0][1].new_full((len(batch), max(values.shape[1] for _, values in parts)), blank)
    for index, values in parts:
        whole[index, : values.shape[1]] = values
    return whole


@torch.inference_mode()
def score_answers(
    objective: Objective, batch: Batch, chunk: int, unknown: int | None = None, end: int | None = None
) -> Scores | None:
    """Scores of a batch, or None where the objective cannot be forced. The token ``unknown`` is never right, and the
    token ``end`` closes every answer."""
    scored: list[tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]] = []
    ragged_forward = objective.order == "forward" and not batch.layout.uniform
    for index, part in split_by_prompt(batch) if ragged_forward else batch.uniform_parts():
        pieces = []
        for piece in split_chunks(part, chunk):
            log_probs = objective.forced(piece)
            if log_probs is None:
                return None
            pieces.append(_reduce(log_probs.float(), piece.answers, end))
        right, loss, margin, stops = (torch.cat(values) for values in zip(*pieces, strict=True))
        scored.append((index, (right, loss, margin, stops)))
    mask = batch.answer_mask()
    # Scores of padding are no scores.
    right, loss, margin, stops = (
        _scatter(batch, [(index, each[n]) for index, each in scored], 0).masked_fill(~mask, 0) for n in range(4)
    )
    right = right if unknown is None else right & (batch.padded_answers() != unknown)
    return Scores(right, loss, margin, mask, None if end is None else stops)


def _reduce(log_probs: Tensor, truth: Tensor, end: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gold = log_probs.gather(-1, truth[..., None]).squeeze(-1)
    right = log_probs.argmax(-1) == truth
    best, second = log_probs.topk(2, -1).values.unbind(-1)
    closing = 0 if end is None else end
    stop = log_probs[..., closing]
    stops = -torch.where(truth == closing, stop, (-stop.exp().clamp(max=1 - 1e-6)).log1p())
    return right, -gold, gold - torch.where(right, second, best), stops
