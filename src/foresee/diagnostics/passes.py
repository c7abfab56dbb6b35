"""The two passes over a batch that most diagnostics share: writing freely, and scoring with the truth revealed.

Both run in chunks of rows and keep only [B, A] reductions, on the batch's device; [B, A, V] never exists for more than
one chunk. Nothing waits for the device until a diagnostic reads its sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foresee.batch import Batch
from foresee.objectives.base import Objective
from foresee.stats import Row, rate


@dataclass(frozen=True)
class Scores:
    """How each answer token fared with the true answer revealed so far, in the objective's own order of decision.

    Columns are in the task's order, whatever order the objective decides in.
    """

    right: Tensor
    """[B, A] bool: the true token has the largest logit (the first of equal ones counts as largest, as in decoding)."""
    loss: Tensor
    """[B, A] float32: minus the log-probability of the true token, in nats."""
    margin: Tensor
    """[B, A] float32: the true token's logit minus the best other one's, in nats."""

    def mean_loss(self) -> float:
        """Mean over rows and answer tokens, in nats a token."""
        return float(self.loss.mean(dtype=torch.float64))


def chunks_of(batch: Batch, chunk: int) -> list[Batch]:
    """``batch`` in pieces of at most ``chunk`` rows."""
    return [batch.rows(slice(at, at + chunk)) for at in range(0, len(batch), chunk)]


@torch.inference_mode()
def write(objective: Objective, batch: Batch, chunk: int) -> Tensor:
    """[B, A]: the objective's greedy answers to the prompts of a uniform batch."""
    pieces = chunks_of(batch, chunk)
    return torch.cat([objective.generate(piece.prompts, piece.layout.width) for piece in pieces])


@torch.inference_mode()
def score(objective: Objective, batch: Batch, chunk: int) -> Scores | None:
    """Scores of a uniform batch, or None where the objective cannot be forced."""
    pieces = []
    for piece in chunks_of(batch, chunk):
        log_probs = objective.forced(piece)
        if log_probs is None:
            return None
        pieces.append(_reduce(log_probs.float(), piece.answers))
    return Scores(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))


def _reduce(log_probs: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gold = log_probs.gather(-1, truth[..., None]).squeeze(-1)
    right = log_probs.argmax(-1) == truth
    best, second = log_probs.topk(2, -1).values.unbind(-1)
    return right, -gold, gold - torch.where(right, second, best)


def share(flags: Tensor) -> Row:
    """The rate of true values in a bool tensor of any shape."""
    return rate(int(flags.sum()), flags.numel())


def share_by_position(flags: Tensor) -> list[Row]:
    """[B, A] bool -> a rate for each answer position."""
    return [rate(count, flags.shape[0]) for count in flags.sum(0).tolist()]
