"""Registers: extra inputs that each predict a token further ahead, read by nobody (MuToR).

Gerontopoulos, Gidaris & Komodakis 2025 (arXiv 2505.10518; the star graph's settings in appendix A.3). Fed: prompt,
register, answer token, register, answer token, and so on; every register is the same learned embedding. For each row an
offset o is drawn uniformly from 2 to ``max_offset``; the register after token t predicts token t + o and stands at
position t + o - 1, as the token before its target would. An offset of 1 is left out: it is next-token again, cheat and
all. Regular tokens read no register; a register reads the regular tokens up to t and itself. Loss: ``(1 - weight)``
times next-token's plus ``weight`` times the registers'. Dropped at decoding: the registers, which changes nothing,
since nothing reads them.

Registers are appended instead of interleaved: under the mask and the given positions their place in the input has no
meaning.

Deviations. A register whose target would lie beyond the answer has no loss, as in the paper's code, and neither has one
that could have no target at any offset, which is therefore not fed. The registers' loss is the mean over those of the
batch that have a target. The embedding starts at N(0, 0.02), as the backbone's own; it is no symbol of the vocabulary,
so that it is never predicted. Rows that share a prefix are read apart.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, cross_entropy, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import NextToken, answer_loss

INIT_STD = 0.02

SMALLEST_OFFSET = 2


@objectives.register("registers")
class Registers(NextToken):
    """Options: ``max_offset``, how far ahead the furthest register looks (4, the paper's for answers of 5 tokens);
    ``weight`` of the registers' loss, next-token's being the rest (0.5, as there)."""

    summary = "next-token, and registers between the tokens that predict further ahead (MuToR)"
    needs: ClassVar[frozenset[Cap]] = frozenset({Cap.VISIBILITY, Cap.POSITIONS})
    undecayed = frozenset({"register_table"})

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 ~r a1 ~r a2 ~r a3",
                (
                    Lane("next token", "next-token", ". . a1 . a2 . a3 . a4"),
                    Lane("registers", "registers", ". . . a2 . a3 . a4 .", dropped=True),
                ),
                reads="mask",
                notes=(("position", "0 1 2 3 3 4 4 5 5"),),
            ),
        ),
        options="max_offset=2",
    )
    explanation = Explanation(
        Family.AHEAD,
        "Learned registers `r` stand between the tokens. Each reads what the token before it reads, and predicts a "
        "token further ahead: `o` tokens on, with `o` drawn for each row from 2 to `max_offset`, and the register "
        "placed where the token before its target would be. No token reads a register, and no register another.",
        f"Gerontopoulos, Gidaris & Komodakis 2025, {arxiv('2505.10518')}; the star graphs' settings in appendix A.3.",
        "One token at a time. The registers are dropped, which changes nothing since nothing reads them; decoding "
        "costs what next-token's costs.",
        dropped="the registers",
        options={
            "max_offset": "how far ahead the furthest register looks, at least 2",
            "weight": "of the registers' loss; next-token's is the rest",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        max_offset: int = 4,
        weight: float = 0.5,
    ) -> None:
        """Raises ``RequestError`` on an impossible option."""
        super().__init__(backbone, vocab, generator)
        if max_offset < SMALLEST_OFFSET:
            raise RequestError(f"registers: max_offset={max_offset} must be at least {SMALLEST_OFFSET}")
        if not 0.0 < weight < 1.0:
            raise RequestError(f"registers: weight={weight} must be a share above 0 and below 1")
        self.max_offset, self.weight = max_offset, weight
        self.register_table = nn.Parameter(torch.empty(1, backbone.width).normal_(0, INIT_STD, generator=generator))

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        tokens, regular, width = batch.tokens, last - 1, batch.layout.width
        draws = torch.randint(SMALLEST_OFFSET, self.max_offset + 1, (len(batch), 1), generator=rng)
        after = register_places(batch)
        target = after + draws.to(tokens.device)
        has_target = target < (batch.prompt_len + batch.answer_len)[:, None]

        registers = self.register_table.expand(*after.shape, -1)
        plain = torch.arange(regular, device=tokens.device).expand(len(batch), -1)
        hidden = self.backbone(
            torch.cat((self.backbone.embed(tokens[:, :regular]), registers), 1),
            attend=visibility(after[:1] if batch.layout.uniform else after, regular),
            positions=torch.cat((plain, (target - 1).clamp_max(regular - 1)), 1),
            keep=slice(first - 1, regular + after.shape[1]),
        )
        logits = self.backbone.logits(hidden)

        out = answer_loss(logits[:, :width], batch, "next-token")
        losses = cross_entropy(logits[:, width:], tokens.gather(1, target.clamp_max(tokens.shape[1] - 1)))
        ahead = self.weight * (losses * has_target).sum() / has_target.sum().clamp_min(1)
        next_token = (1 - self.weight) * out.total
        return LossOut(next_token + ahead, {"next-token": next_token, "registers": ahead}, out.per_token)


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
