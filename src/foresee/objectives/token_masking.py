"""Token masking: teacher forcing that masks a random amount of the answer it reads.

Every answer token is predicted all the same. Where the token before it is masked no single edge tells the next one, so
several must be followed at once.

Family: other orders and masked inputs.
Source: Frydenlund 2025, arXiv 2503.10542, after a secondary source.
Loss: next-token's, masked tokens counted too, without any shift of positions. For each row, either every answer token
is masked at the row's own rate, drawn from U(0, 1), or one span is, its length uniform from none to all and its place
among those where it fits. A masked token is replaced by ``<mask>`` or by a random node.
Decoding: as next-token, nothing masked.
Dropped: the masking.
Deviations: the paper's text was not at hand: "uniform rate" is read as one drawn for each row; the law of spans is our
own. A random node is one of the batch's answer tokens, since an objective does not know which symbols are nodes.
Drawing:
    fed                         p1 p2 p3 a1 ~<mask> a3
    title                       one draw of what is masked
    next token (token-masking)  . . a1 a2 a3 a4
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_logits, answer_loss

MASK = "<mask>"


@objectives.register("token-masking")
class TokenMasking(NextToken):
    """Next-token on masked inputs.

    Options:
        choose: mask `tokens`, each by the row's own random rate, or one `span`
        replace: masked tokens by the `mask` or by `random` tokens of the batch's answers
    """

    summary = "teacher forcing with a random part of the answer masked in the input"
    recordable = True
    symbols = (MASK,)

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        choose: Literal["tokens", "span"] = "tokens",
        replace: Literal["mask", "random"] = "mask",
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.choose, self.replace = choose, replace
        self.mask = vocab.token(MASK)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        masked = draw_span(batch, rng) if self.choose == "span" else draw_tokens(batch, rng)
        if self.replace == "random":
            inputs = torch.where(masked, draw_answer_tokens(batch, rng), batch.tokens)
        else:
            inputs = batch.tokens.masked_fill(masked, self.mask)
        return answer_loss(answer_logits(self.backbone, inputs, batch), batch, "token-masking")


def draw_tokens(batch: Batch, rng: torch.Generator) -> Tensor:
    """[B, T] bool: each answer token that is an input, with its row's rate, drawn from U(0, 1)."""
    rate = _uniform(batch, 1, rng)
    place, inputs = _places(batch)
    return (place >= 0) & (place < inputs) & (_uniform(batch, batch.tokens.shape[1], rng) < rate)


def draw_span(batch: Batch, rng: torch.Generator) -> Tensor:
    """[B, T] bool: in each row one span of the answer tokens that are inputs, from none to all of them."""
    length_draw, start_draw = _uniform(batch, 2, rng).chunk(2, 1)
    place, inputs = _places(batch)
    length = (length_draw * (inputs + 1)).long()
    start = (start_draw * (inputs - length + 1)).long()
    return (place >= start) & (place < start + length)


def draw_answer_tokens(batch: Batch, rng: torch.Generator) -> Tensor:
    """[B, T] tokens, each drawn uniformly from the batch's answer tokens, repeated ones as often as they occur."""
    ends = batch.answer_len.cumsum(0)
    drawn = (_uniform(batch, batch.tokens.shape[1], rng) * ends[-1]).long().clamp(max=ends[-1] - 1)
    row = torch.searchsorted(ends, drawn, right=True)
    return batch.tokens[row, batch.prompt_len[row] + drawn - (ends - batch.answer_len)[row]]


def _uniform(batch: Batch, columns: int, rng: torch.Generator) -> Tensor:
    """[B, columns] numbers from U(0, 1), on the batch's device; of double precision, for products with counts."""
    drawn = torch.rand(len(batch), columns, dtype=torch.float64, generator=rng, device=rng.device)
    return drawn.to(batch.tokens.device)


def _places(batch: Batch) -> tuple[Tensor, Tensor]:
    """Each column's place in the answer [B, T], and how many answer tokens of a row are inputs [B, 1]."""
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    return columns - batch.prompt_len[:, None], batch.answer_len[:, None] - 1
