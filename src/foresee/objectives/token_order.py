"""Token order prediction: a second head ranks every symbol by how soon it comes, beside next-token's (TOP).

A symbol ``d`` tokens ahead gets a share of the target in proportion to exp(-d), so the branch position is taught the
whole arm and not its first node alone.

Family: a summary of the future.
Source: Zuhri, Fuadi & Aji 2025, arXiv 2508.19228.
Loss: next-token's plus ``weight`` times ListNet's, the cross entropy of the head's softmax against that of the scores
``W - d``, where a symbol's next occurrence is d tokens ahead (0 < d <= W, the next token at d = 1). W cancels; the loss
cannot fall below the target's entropy. The window ends W tokens ahead, as in the paper's algorithm; its two
implementations differ by one there. For star graphs the paper has W = the sequence's length, here ``window=none``.
Decoding: as next-token.
Dropped: the order head.
Deviations: targets come from answer tokens alone, at the positions that predict one, in float32 (the paper's code:
float16); both losses are means over answer tokens.
Drawing:
    fed                        p1 p2 p3 a1 a2 a3
    next token                 . . a1 a2 a3 a4
    ~order head (token-order)  . . a1>a2>a3>a4 a2>a3>a4 a3>a4 a4
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, draw_weights, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_loss, answer_mean, answer_states, answer_targets, target_mask


@objectives.register("token-order")
class TokenOrder(NextToken):
    """A second head for the order; the default weight is the paper's.

    Options:
        window: how many tokens ahead are ordered; `none` is the whole answer
        weight: of the order loss beside next-token's
    """

    summary = "next-token, and a second head that ranks symbols by how soon they come (TOP)"
    recordable = True

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        window: Annotated[int | None, Bounds(1, why="or none for the whole answer")] = None,
        weight: Annotated[float, Bounds(above=0)] = 1.0,
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.window, self.weight = window, weight
        self.order_head = draw_weights(generator, len(vocab), backbone.width)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        states = answer_states(self.backbone, batch.tokens, batch)
        out = answer_loss(self.backbone.logits(states), batch, "next-token")
        answers = answer_targets(batch)
        targets = order_targets(answers, target_mask(batch), len(self.vocab), self.window)
        scores = functional.linear(states, self.order_head).float()
        losses = functional.cross_entropy(scores.flatten(0, 1), targets.flatten(0, 1), reduction="none")
        return out.plus({"token-order": self.weight * answer_mean(losses.view_as(answers), batch)})


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
