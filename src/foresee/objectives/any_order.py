"""sigma-GPT: next-token prediction in random orders, where every token carries the place that comes next.

For each row a random order of the answer is drawn anew; the drawing shows one of 24. Every token is fed with its own
place and the place to predict next. The orders include the reversed one.

Family: other orders and masked inputs.
Source: Pannatier, Courdier & Fleuret 2024, arXiv 2404.09562.
Loss: next-token's in that order, causal in it, the prompt first and in order. Inputs are E(x) + Pos(its own place) +
Pos'(the place of the next token); the last prompt token carries Pos' of the first answer token to come. Pos is the
backbone's own, learned or rotary; Pos' is a table [T, D], always added.
Decoding: as next-token, from left to right.
Dropped: nothing.
Deviations: the authors' code for text joins halves of one table. Their curriculum of orders is left out, since a loss
knows no step, and so is their decoding in bursts.
Drawing:
    fed                        p1 p2 p3 a3 a1 a4
    next in order (any-order)  . . a3 a1 a4 a2
    @own place                 0 1 2 5 3 6
    @place to predict          1 2 5 3 6 4
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, Objective, draw_weights, objectives, require
from foresee.objectives.decoding import decode
from foresee.objectives.teacher_forcing import answer_log_probs, answer_loss


def draw_order(batch: Batch, rng: torch.Generator) -> Tensor:
    """[B, T] int64: the column whose token stands at each slot. Answers are in random order; all else stays."""
    first, last = batch.layout.first, batch.layout.last
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device).repeat(len(batch), 1)
    # Float64 keeps the draws apart when the prompt's length is added. An answer's keys lie between those of the last
    # prompt token and of the first padding.
    draws = torch.rand(len(batch), last - first, generator=rng, device=rng.device, dtype=torch.float64)
    keys = draws.to(columns.device) + batch.prompt_len[:, None]
    keys = torch.where(batch.in_answer()[:, first:last], keys, columns[:, first:last].double())
    columns[:, first:last] = keys.argsort(1) + first
    return columns


@objectives.register("any-order")
class AnyOrder(Objective):
    """Needs POSITIONS: slots are not places here, so each token must be read at the place it came from. It needs
    neither LOOKAHEAD nor VISIBILITY: the order is that of the slots, which are read causally.

    Options:
        context: the longest sequence that the table of places to predict holds, at most the backbone's longest
    """

    summary = "next-token in random orders, each input with the position to predict next (sigma-GPT)"
    backbone_alone = False
    needs = frozenset({Cap.POSITIONS})
    undecayed = frozenset({"target_table"})

    def __init__(
        self, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator, *, context: int = 1024
    ) -> None:
        super().__init__(backbone, vocab, generator)
        require("any-order: context", context, at_least=1)
        places = context if backbone.longest is None else min(context, backbone.longest)
        self.target_table = draw_weights(generator, places, backbone.width)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        order = draw_order(batch, rng)
        reordered = dataclasses.replace(batch, tokens=batch.tokens.gather(1, order))
        out = answer_loss(self._logits(reordered, order), reordered, "any-order")
        return LossOut(out.total, out.parts, torch.empty_like(out.per_token).scatter_(1, order, out.per_token))

    def _logits(self, batch: Batch, order: Tensor) -> Tensor:
        """[B, A, V] for the answer's slots, from tokens that stand in ``order`` [B, T] (as ``draw_order`` gives it)."""
        first, last = batch.layout.first, batch.layout.last
        self._refuse_length(last)
        x = self.backbone.embed(batch.tokens[:, : last - 1]) + functional.embedding(order[:, 1:last], self.target_table)
        return self.backbone.logits(self.backbone(x, positions=order[:, : last - 1], keep=slice(first - 1, last - 1)))

    def _refuse_length(self, length: int) -> None:
        places = len(self.target_table)
        if length > places:
            raise RequestError(
                f"any-order: a sequence of {length} tokens does not fit the {places} places of its table; set "
                f"context={length} or more, here and in the backbone"
            )

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        if n == 0:
            return prompt[:, :0]
        length = prompt.shape[1]
        self._refuse_length(length + n)
        embed, table = self.backbone.embed, self.target_table
        x = embed(prompt) + table[1 : length + 1]
        return decode(self.backbone, x, n, embed=lambda token, position: embed(token) + table[position + 1])

    def forced(self, batch: Batch) -> Tensor:
        """From left to right, as ``generate``."""
        in_place = torch.arange(batch.tokens.shape[1], device=batch.tokens.device).expand_as(batch.tokens)
        return answer_log_probs(self._logits(batch, in_place), batch)
