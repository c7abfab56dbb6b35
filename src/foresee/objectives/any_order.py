"""sigma-GPT: next-token prediction in random orders, where every token is told which place comes next.

Pannatier, Courdier & Fleuret 2024 (research/objectives.md section 13). For each row a random order of the answer is
drawn; the prompt stays first and in order. Fed at slot s: the s-th token in that order, E(x) + Pos(its own place) +
Pos'(the place of the next token), under a causal mask in the new order. Predicted at slot s: the next token. The last
prompt token thus carries Pos' of the first answer token to come. Averaged over the batch's answer tokens. Nothing is
dropped at decoding, which is greedy and from left to right, one order among those trained.

Pos is the backbone's own code of positions, learned or rotary. Pos' is a table of its own, [T, D], drawn from
N(0, 0.02) and always added, so that it goes with rotary positions too.

Deviations. The authors' code for text has one table of half the width for both and joins the halves. Their curriculum
from left-to-right to random orders is left out, since a loss knows no step: all orders are equally likely throughout.
Their decoding in bursts (tokens proposed in parallel and accepted by a ratio test) is left out: ours is greedy.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, Objective, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import answer_loss

TARGET_STD = 0.02


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
    """Options: ``context``, the longest sequence that the table of target places holds (1024 as in GPT-2, or the
    backbone's longest where that is less).

    Needs POSITIONS: slots are not places here, so each token must be read at the place it came from. It needs neither
    LOOKAHEAD nor VISIBILITY: the order is that of the slots, which are read causally.
    """

    summary = "next-token in random orders of the answer, each token told which place comes next"
    backbone_alone: ClassVar[bool] = False
    needs = frozenset({Cap.POSITIONS})
    undecayed = frozenset({"target_table"})

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a3 a1 a4",
                (Lane("next in order", "any-order", ". . a3 a1 a4 a2"),),
                notes=(("own place", "0 1 2 5 3 6"), ("place to predict", "1 2 5 3 6 4")),
            ),
        )
    )
    explanation = Explanation(
        Family.ORDER,
        "Next-token prediction in a random order of the answer, drawn anew for each row; the drawing shows one of 24. "
        "Every token is fed with its own place and with the place to predict next. The orders include the reversed "
        "one, and every set of shown tokens.",
        f"Pannatier, Courdier & Fleuret 2024, {arxiv('2404.09562')} (sigma-GPT).",
        "One token at a time from left to right, one of the orders trained; nothing is dropped, so decoding costs what "
        "next-token's costs.",
        options={
            "context": "the longest sequence that the table of places to predict holds, at most the backbone's longest"
        },
    )

    def __init__(
        self, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator, *, context: int = 1024
    ) -> None:
        super().__init__(backbone, vocab)
        if context < 1:
            raise RequestError(f"any-order: context={context} must be at least 1")
        places = context if backbone.longest is None else min(context, backbone.longest)
        self.target_table = nn.Parameter(
            torch.empty(places, backbone.width).normal_(0.0, TARGET_STD, generator=generator)
        )

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
        backbone = self.backbone
        hidden, state = backbone.start(backbone.embed(prompt) + self.target_table[1 : length + 1], steps=n - 1)
        chosen = [backbone.logits(hidden).argmax(-1)]
        for place in range(length + 1, length + n):
            hidden, state = backbone.step(backbone.embed(chosen[-1]) + self.target_table[place], state)
            chosen.append(backbone.logits(hidden).argmax(-1))
        return torch.stack(chosen, 1)

    def forced(self, batch: Batch) -> Tensor:
        """From left to right, as ``generate``."""
        batch.answers  # noqa: B018  # refuses ragged batches
        in_place = torch.arange(batch.tokens.shape[1], device=batch.tokens.device).expand_as(batch.tokens)
        return functional.log_softmax(self._logits(batch, in_place).float(), -1)
