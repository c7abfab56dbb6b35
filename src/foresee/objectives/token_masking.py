"""Token masking: teacher forcing that hides a random amount of the answer it shows (Frydenlund 2025, arXiv 2503.10542).

Fed: the prompt whole, and the answer with some tokens replaced, without any shift of positions. Predicted: every answer
token, the replaced ones too, from the position before it, as for next-token. Where the token before it is hidden, no
single edge tells the next one, so several must be followed at once. Dropped at decoding: the masking. ``generate`` and
``forced`` are next-token's and show no mask. The loss is next-token's: the mean over the batch's answer tokens.

For each row, either every answer token is hidden with the row's own rate, drawn from U(0, 1), or one contiguous span
is, its length uniform from none to all of them and its place uniform among those where it fits. A hidden token is
replaced by ``<mask>``, or by a random node. The last answer token is never shown, so it is not counted.

Deviations. The paper's text was not at hand (research/objectives.md section 17 is a secondary source): "uniform rate"
is read as a rate drawn uniformly for each row, and the law of spans is our own. A random node is a token drawn
uniformly from the answer tokens of the batch, since an objective does not know which symbols are nodes. Hiding with one
fixed rate is ``examples/word_dropout.py``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import NextToken, answer_loss, teacher_forced

MASK = "<mask>"


@objectives.register("token-masking")
class TokenMasking(NextToken):
    """Options: ``choose``, which shown answer tokens are hidden: tokens (each by the row's rate) or a span; ``replace``
    them by the mask or by random tokens of other answers."""

    summary = "teacher forcing with a random amount of the shown answer masked"
    symbols = (MASK,)

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a1 ~<mask> a3",
                (Lane("next token", "token-masking", ". . a1 a2 a3 a4"),),
                title="one draw of what is hidden",
            ),
        )
    )
    explanation = Explanation(
        Family.ORDER,
        "Teacher forcing that hides a random amount of the answer it shows, by a mask or by random nodes. Every answer "
        "token is predicted all the same. Where the token before it is hidden no single edge tells the next one, so "
        "several must be followed at once.",
        f"Frydenlund 2025, {arxiv('2503.10542')} (token masking, after a secondary source).",
        "One token at a time with nothing hidden: the masking is dropped, and decoding costs what next-token's costs.",
        dropped="the masking",
        options={
            "choose": "hide `tokens`, each by the row's own random rate, or one `span`",
            "replace": "hidden tokens by the `mask` or by `random` tokens of other answers",
        },
    )

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
        """Mean cross entropy of the answer tokens, in nats; inputs are hidden, never targets."""
        hidden = hidden_span(batch, rng) if self.choose == "span" else hidden_tokens(batch, rng)
        if self.replace == "random":
            inputs = torch.where(hidden, random_answer_tokens(batch, rng), batch.tokens)
        else:
            inputs = batch.tokens.masked_fill(hidden, self.mask)
        return answer_loss(teacher_forced(self.backbone, inputs, batch), batch, "token-masking")


def hidden_tokens(batch: Batch, rng: torch.Generator) -> Tensor:
    """[B, T] bool: each shown answer token of a row with that row's rate, drawn from U(0, 1)."""
    rate = _uniform(batch, 1, rng)
    place, shown = _places(batch)
    return (place >= 0) & (place < shown) & (_uniform(batch, batch.tokens.shape[1], rng) < rate)


def hidden_span(batch: Batch, rng: torch.Generator) -> Tensor:
    """[B, T] bool: in each row one span of the shown answer tokens, from none to all of them."""
    length_draw, start_draw = _uniform(batch, 2, rng).chunk(2, 1)
    place, shown = _places(batch)
    length = (length_draw * (shown + 1)).long()
    start = (start_draw * (shown - length + 1)).long()
    return (place >= start) & (place < start + length)


def random_answer_tokens(batch: Batch, rng: torch.Generator) -> Tensor:
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
    """Each column's place in the answer [B, T], and how many answer tokens a row shows [B, 1]."""
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    return columns - batch.prompt_len[:, None], batch.answer_len[:, None] - 1
