"""Token order prediction: rank every symbol by how soon it comes next, beside next-token prediction.

Zuhri, Fuadi & Aji 2025 (arXiv 2508.19228). Fed: the sequence, as for next-token. Predicted, by a second linear head on
the same final states: at position t, symbol v has the score ``W - d`` where its next occurrence is d tokens ahead
(0 < d <= W, the next token at d = 1) and none otherwise; the loss is ListNet's, the cross entropy of the head's softmax
against the softmax of these scores, added to the next-token loss. W cancels in the softmax, so a target is proportional
to ``exp(-d)`` and the loss cannot fall below the target's entropy. Dropped at decoding: the head.

The window ends as in the paper's algorithm, W tokens ahead; its two implementations differ by one there. The star graph
of the paper has W = the sequence's length, here ``window=none``.

Deviations. Targets come from answer tokens alone, at the positions that predict one: prompts are not ordered. Both
losses are means over the batch's answer tokens. Every such position has a token ahead, so no target is empty. Targets
are float32 where the paper's code has float16. The head starts at N(0, 0.02), as the backbone's own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import NextToken, answer_loss, answer_states

INIT_STD = 0.02


@objectives.register("token-order")
class TokenOrder(NextToken):
    """Options: ``window``, how many tokens ahead are ordered (none: the whole answer); ``weight`` of the order loss
    beside next-token's (1 as in the paper)."""

    summary = "next-token, and a second head that ranks symbols by how soon they come (TOP)"

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a1 a2 a3",
                (
                    Lane("next token", "next-token", ". . a1 a2 a3 a4"),
                    Lane("order head", "token-order", ". . a1>a2>a3>a4 a2>a3>a4 a3>a4 a4", dropped=True),
                ),
            ),
        )
    )
    explanation = Explanation(
        Family.SUMMARY,
        "A second linear head on the same states ranks all symbols by how soon they come next. A symbol that stands "
        "`d` tokens ahead gets a share of the target in proportion to exp(-d), so the branch position is taught the "
        "whole arm and not its first node alone.",
        f"Zuhri, Fuadi & Aji 2025, {arxiv('2508.19228')}.",
        "One token at a time by next-token's head. The order head is dropped, so decoding costs what next-token's "
        "costs.",
        dropped="the order head",
        options={
            "window": "how many tokens ahead are ordered; `none` is the whole answer",
            "weight": "of the order loss beside next-token's",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        window: int | None = None,
        weight: float = 1.0,
    ) -> None:
        """Raises ``RequestError`` on an impossible option."""
        super().__init__(backbone, vocab, generator)
        if window is not None and window < 1:
            raise RequestError(f"token-order: window={window} must be at least 1 token, or none for the whole answer")
        if not 0.0 < weight < math.inf:
            raise RequestError(f"token-order: weight={weight} must be above 0 and finite")
        self.window, self.weight = window, weight
        self.order_head = nn.Parameter(
            torch.empty(len(vocab), backbone.width).normal_(0, INIT_STD, generator=generator)
        )

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        hidden = answer_states(self.backbone, batch.tokens, batch)
        out = answer_loss(self.backbone.logits(hidden), batch, "next-token")
        answered = batch.in_answer()[:, first:last]
        targets = order_targets(batch.tokens[:, first:last], answered, len(self.vocab), self.window)
        scores = functional.linear(hidden, self.order_head).float()
        losses = functional.cross_entropy(scores.flatten(0, 1), targets.flatten(0, 1), reduction="none")
        order = self.weight * (losses.view_as(answered) * answered).sum() / batch.answer_len.sum()
        return LossOut(out.total + order, {**out.parts, "token-order": order}, out.per_token)


def order_targets(answers: Tensor, answered: Tensor, symbols: int, window: int | None) -> Tensor:
    """Distributions [B, A, V] over ``symbols``, float32, from tokens [B, A] of which ``answered`` [B, A] are real.

    Row i is what the position that predicts column i is to know: each symbol found from column i on, within ``window``
    columns, by the nearest place it stands at.
    """
    columns = torch.arange(answers.shape[1], device=answers.device)
    ahead = columns[None, :] - columns[:, None]  # [i, j]: 0 for the next token itself
    same = answers[:, :, None] == answers[:, None, :]
    # Where token j stood last before column j; -1 where it did not.
    previous = torch.where(same & (ahead > 0), columns[:, None], -1).amax(1)
    nearest = (ahead >= 0) & (previous[:, None, :] < columns[:, None]) & answered[:, None, :]
    if window is not None:
        nearest &= ahead < window
    soon = nearest * torch.exp(-ahead.clamp_min(0).float())
    index = answers[:, None, :].expand_as(soon)
    # Every symbol gets at most one number above zero, so the order of summation is no matter.
    targets = soon.new_zeros(*soon.shape[:2], symbols).scatter_add_(2, index, soon)
    return targets / targets.sum(-1, keepdim=True).clamp_min(torch.finfo(targets.dtype).tiny)
