"""Registers: extra inputs that each predict a token further ahead, read by nobody (MuToR).

Learned registers ``r`` stand between the tokens. Each reads what the token before it reads and predicts a token ``o``
places on, from the position before that. Nobody reads a register but itself. An offset of 1 would be next-token again,
shortcut and all.

Family: several tokens in advance.
Source: Gerontopoulos, Gidaris & Komodakis 2025, arXiv 2505.10518; the star graphs' settings in appendix A.3.
Loss: ``(1 - weight)`` times next-token's plus ``weight`` times the mean loss of the registers that have a target. All
registers are one embedding; o is drawn for each row from 2 to ``max_offset``; the register after token t predicts token
t + o at position t + o - 1. They are appended: mask and positions make their place in the input meaningless.
Decoding: as next-token.
Dropped: the registers.
Deviations: a register that could have no target at any offset is not fed; one without a target has no loss, as in the
paper's code.
Drawing, max_offset=2:
    fed         p1 p2 p3 ~r a1 ~r a2 ~r a3
    reads       mask
    next token  . . a1 . a2 . a3 . a4
    ~registers  . . . a2 . a3 . a4 .
    @position   0 1 2 3 3 4 4 5 5
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, draw_weights, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_loss, cross_entropy

SMALLEST_OFFSET = 2


@objectives.register("registers")
class Registers(NextToken):
    """Defaults are the paper's for answers of 5 tokens.

    Options:
        max_offset: how far ahead the furthest register looks, at least 2
        weight: of the registers' loss; next-token's is the rest
    """

    summary = "next-token, and registers between the tokens that predict further ahead (MuToR)"
    recordable = True
    needs = frozenset({Cap.VISIBILITY, Cap.POSITIONS})
    undecayed = frozenset({"register_table"})

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        max_offset: Annotated[int, Bounds(SMALLEST_OFFSET)] = 4,
        weight: Annotated[float, Bounds(above=0, below=1)] = 0.5,
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.max_offset, self.weight = max_offset, weight
        self.register_table = draw_weights(generator, 1, backbone.width)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        tokens, regular, width = batch.tokens, last - 1, batch.layout.width
        after, target, has_target = self._draw_targets(batch, rng)

        registers = self.register_table.expand(*after.shape, -1)
        plain = torch.arange(regular, device=tokens.device).expand(len(batch), -1)
        states = self.backbone(
            torch.cat((self.backbone.embed(tokens[:, :regular]), registers), 1),
            attend=visibility(after[:1] if batch.layout.uniform else after, regular),
            positions=torch.cat((plain, (target - 1).clamp_max(regular - 1)), 1),
            keep=slice(first - 1, regular + after.shape[1]),
        )
        logits = self.backbone.logits(states)

        out = answer_loss(logits[:, :width], batch, "next-token")
        losses = cross_entropy(logits[:, width:], tokens.gather(1, target.clamp_max(tokens.shape[1] - 1)))
        ahead = self.weight * (losses * has_target).sum() / has_target.sum().clamp_min(1)
        next_token = (1 - self.weight) * out.total
        return LossOut(next_token + ahead, {"next-token": next_token, "registers": ahead}, out.per_token)

    def count_terms(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        return {"registers": self._draw_targets(batch, rng)[2].sum()}

    def _draw_targets(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """For each register [B, R] the column it comes after, its target's, and whether that is an answer token."""
        draws = torch.randint(SMALLEST_OFFSET, self.max_offset + 1, (len(batch), 1), generator=rng, device=rng.device)
        after = register_places(batch)
        target = after + draws.to(batch.tokens.device)
        return after, target, target < (batch.prompt_len + batch.answer_len)[:, None]


def register_places(batch: Batch) -> Tensor:
    """[B, R]: the column of the regular token that each register comes after, the prompt's last one first.

    R is as many as the longest answer can need with the smallest offset.
    """
    count = max(batch.layout.width + 1 - SMALLEST_OFFSET, 0)
    return batch.prompt_len[:, None] - 1 + torch.arange(count, device=batch.tokens.device)


def visibility(after: Tensor, regular: int) -> Tensor:
    """Who reads whom, bool [B, T, T], where ``regular`` tokens are followed by registers.

    ``after`` [B, R] is the column of the regular token that each register comes after.
    """
    plain = torch.arange(regular, device=after.device).expand(len(after), -1)
    # Registers past the end of a short row have no target; they must not read other registers all the same.
    newest_read = torch.cat((plain, after.clamp_max(regular - 1)), 1)
    places = torch.arange(newest_read.shape[1], device=after.device)
    return (places <= newest_read[:, :, None]) | (places == places[:, None])
