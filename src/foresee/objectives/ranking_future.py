"""Ranking into the future: at every step the rest of the answer, in order, above everything else.

No distribution is learned but an order: the next token first, then those after it, above all symbols that do not
follow. Each pair adds a hinge loss until it is apart by one.

Family: a summary of the future.
Source: Frydenlund 2025, arXiv 2503.10542.
Loss: at the position that predicts y_i, with logits s, ``sum_{j>=i} sum_{k>j} max(0, 1 - (s[y_j] - s[y_k])) +
sum_{j>=i} sum_v max(0, 1 - (s[y_j] - s[v]))``, v over the ``negatives`` that are none of y_i to y_M: parts "future" and
"others", means over answer tokens, in units of logits, not nats. Time and memory grow as B * M^2 * (M + V).
Decoding: as next-token, the highest score. The softmax in ``forced`` ranks rightly, but means nothing as probabilities.
Dropped: nothing.
Deviations: the paper's "others" are the nodes of the other arms, of graphs that hold every label. An objective sees
tokens alone, so they are every symbol not to come, the answer's past included: one that nothing ranks could win.
``negatives=prompt`` takes those of the row's prompt and, of the rest, the highest alone: nearer to the paper where
labels outnumber a graph's nodes. A repeated token is ranked at its next occurrence. The paper's weights were not at
hand: here equal.
Drawing:
    fed                      p1 p2 p3 a1 a2 a3
    ranking (future others)  . . a1>a2>a3>a4>* a2>a3>a4>* a3>a4>* a4>*
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_logits, answer_mean, answer_targets, target_mask, token_losses

MARGIN = 1.0


@objectives.register("ranking-future", later=("negatives",))
class RankingFuture(NextToken):
    """The backbone and its weights are next-token's; so are ``generate`` and ``forced``.

    Options:
        negatives: what the answer's rest is ranked above: `all` other symbols, or those of the row's `prompt` and the
            highest other one
    """

    summary = "hinge losses rank the rest of the answer, in order, above all other symbols"
    recordable = True

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator | None = None,
        *,
        negatives: Literal["all", "prompt"] = "all",
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.negatives = negatives

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """Hinge losses, summed over pairs and averaged over answer tokens. ``per_token`` is a step's sum of both."""
        logits = answer_logits(self.backbone, batch.tokens, batch).float()
        negatives = prompt_symbols(batch, logits.shape[-1]) if self.negatives == "prompt" else None
        future, others = ranking_losses(logits, answer_targets(batch), target_mask(batch), negatives)
        parts = {"future": answer_mean(future, batch), "others": answer_mean(others, batch)}
        return LossOut(parts["future"] + parts["others"], parts, token_losses(future + others, batch))


def prompt_symbols(batch: Batch, symbols: int) -> Tensor:
    """Which of the vocabulary's ``symbols`` stand in each row's prompt, bool [B, V]."""
    in_prompt = torch.arange(batch.tokens.shape[1], device=batch.tokens.device) < batch.prompt_len[:, None]
    counts = torch.zeros(len(batch), symbols, dtype=torch.int64, device=batch.tokens.device)
    return counts.scatter_add(1, batch.tokens, in_prompt.long()) > 0


def ranking_losses(
    logits: Tensor, answers: Tensor, in_answer: Tensor, negatives: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The two sums of hinges at every step, [B, A] each and zero outside answers.

    ``logits`` [B, A, V] predict ``answers`` [B, A]; ``in_answer`` [B, A] says which of them are answer tokens, and
    ``negatives`` [B, V] which symbols each is ranked above, by default all; of the others only the highest counts.
    """
    rows, length, vocab_size = logits.shape
    ranked = _ranked(answers, in_answer)
    listed = answers[:, None].expand(-1, length, -1)
    scores = logits.gather(2, listed)

    step = torch.arange(length, device=logits.device)
    pairs = ranked[:, :, :, None] & ranked[:, :, None, :] & (step[:, None] < step)
    future = functional.relu(MARGIN - scores[:, :, :, None] + scores[:, :, None, :]) * pairs

    upcoming = torch.zeros(rows, length, vocab_size, dtype=torch.int64, device=logits.device)
    upcoming = upcoming.scatter_add(2, listed, ranked.long())
    below = upcoming == 0
    counted = below if negatives is None else below & negatives[:, None]
    hinges = functional.relu(MARGIN - scores[:, :, :, None] + logits[:, :, None, :])
    others = (hinges * (ranked[:, :, :, None] & counted[:, :, None, :])).sum((2, 3))
    if negatives is not None:
        highest = logits.masked_fill(counted | ~below, -math.inf).amax(-1, keepdim=True)
        others = others + (functional.relu(MARGIN - scores + highest) * ranked).sum(2)
    return future.sum((2, 3)), others


def _ranked(answers: Tensor, in_answer: Tensor) -> Tensor:
    """[B, A] and [B, A] -> bool [B, A, A]: whether step i ranks the answer's token at place k: it is still to come, and
    does not come before k."""
    step = torch.arange(answers.shape[1], device=answers.device)
    repeats = (answers[:, :, None] == answers[:, None, :]) & in_answer[:, None, :] & (step[:, None] > step)
    # The place of the same token's last occurrence before k.
    previous = torch.where(repeats, step, -1).amax(2)
    to_come = in_answer[:, :, None] & in_answer[:, None, :] & (step >= step[:, None])
    return to_come & (previous[:, None, :] < step[:, None])
