"""Future summary as a bag of tokens: which symbols are still to come, beside next-token prediction (FSP).

A second linear head says of every symbol whether it comes *after* the next token, order and number aside.

Family: a summary of the future.
Source: Mahajan et al. 2025, arXiv 2510.14751: the summary made by hand, FSP with a bag of words.
Loss: next-token's plus ``weight`` times the binary cross entropy, the mean or the sum over symbols, of whether each is
among the answer tokens t + 2 to t + ``horizon``; both are means over answer tokens.
Decoding: as next-token.
Dropped: the bag head.
Deviations: the paper's sum over symbols is ``reduction=sum``; it begins at V ln 2 and swamps the next-token loss. Bags
hold answer tokens alone; the last one is empty and counts. Weights by rarity (tf-idf) are left out: symbols of a task
are equally rare.
Drawing:
    fed                     p1 p2 p3 a1 a2 a3
    next token              . . a1 a2 a3 a4
    ~bag head (future-bag)  . . {a2,a3,a4} {a3,a4} {a4} {}
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, draw_weights, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_loss, answer_mean, answer_states, answer_targets, target_mask


@objectives.register("future-bag", later=("reduction",))
class FutureBag(NextToken):
    """A second head for the bag.

    Options:
        horizon: how many tokens ahead the bag reaches, at least 2; `none` is to the answer's end
        weight: of the bag loss beside next-token's
        reduction: of the bag loss over symbols, the `mean`, or the `sum` as published: V times as much
    """

    summary = "next-token, and a second head that says which symbols come after the next one (FSP)"
    recordable = True

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        horizon: Annotated[int | None, Bounds(2, why="or none for the whole answer")] = None,
        weight: Annotated[float, Bounds(above=0)] = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.horizon, self.weight, self.reduction = horizon, weight, reduction
        self.bag_head = draw_weights(generator, len(vocab), backbone.width)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        states = answer_states(self.backbone, batch.tokens, batch)
        out = answer_loss(self.backbone.logits(states), batch, "next-token")
        bags = future_bags(answer_targets(batch), target_mask(batch), len(self.vocab), self.horizon)
        scores = functional.linear(states, self.bag_head).float()
        by_symbol = functional.binary_cross_entropy_with_logits(scores, bags, reduction="none")
        losses = by_symbol.sum(-1) if self.reduction == "sum" else by_symbol.mean(-1)
        return out.plus({"future-bag": self.weight * answer_mean(losses, batch)})


def future_bags(answers: Tensor, answered: Tensor, symbols: int, horizon: int | None) -> Tensor:
    """Bags [B, A, V] of ``symbols``, 0 or 1 in float32, from tokens [B, A] of which ``answered`` [B, A] are real.

    Row i belongs to the position that predicts column i, t = i - 1, and holds what stands in columns i + 1 to
    i + ``horizon`` - 1.
    """
    columns = torch.arange(answers.shape[1], device=answers.device)
    ahead = columns[None, :] - columns[:, None]  # [i, j]: 0 for the next token itself
    coming = (ahead > 0) & answered[:, None, :]
    if horizon is not None:
        coming &= ahead < horizon
    index = answers[:, None, :].expand_as(coming)
    counts = torch.zeros(*coming.shape[:2], symbols, device=answers.device).scatter_add(2, index, coming.float())
    return counts.clamp_max_(1)
