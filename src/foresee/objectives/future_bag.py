"""Future summary as a bag of tokens: say which symbols are still to come, beside next-token prediction.

Mahajan et al. 2025 (arXiv 2510.14751), the hand-made summary. Fed: the sequence, as for next-token. Predicted, by a
second linear head on the same final states: at position t, for every symbol whether it is among the answer tokens
t + 2, ..., t + horizon, order and number aside, by binary cross entropy with equal weights, added to the next-token
loss. Token t + 1 is left out of the bag, as it is next-token's own. Dropped at decoding: the head.

Deviations. The paper sums the cross entropy over symbols; here it is averaged, since the sum begins at V ln 2 and
swamps the next-token loss (``weight=V`` gives the sum). Bags hold answer tokens alone, and only the positions that
predict an answer token have one; at the last of them it is empty and counts as such. Both losses are means over the
batch's answer tokens. The paper also weights symbols by their rarity (tf-idf) in text; symbols of a task are equally
rare. The head starts at N(0, 0.02), as the backbone's own.
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


@objectives.register("future-bag")
class FutureBag(NextToken):
    """Options: ``horizon``, how many tokens ahead the bag reaches (none: to the answer's end); ``weight`` of the bag
    loss, a mean over symbols, beside next-token's."""

    summary = "next-token, and a second head that says which symbols come after the next one (FSP)"

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a1 a2 a3",
                (
                    Lane("next token", "next-token", ". . a1 a2 a3 a4"),
                    Lane("bag head", "future-bag", ". . {a2,a3,a4} {a3,a4} {a4} {}", dropped=True),
                ),
            ),
        )
    )
    explanation = Explanation(
        Family.SUMMARY,
        "A second linear head on the same states says of every symbol whether it comes *after* the next token, order "
        "and number aside. The next token is left out of the bag, as it is next-token's own.",
        f"Mahajan et al. 2025, {arxiv('2510.14751')}: the summary made by hand, FSP with a bag of words.",
        "One token at a time by next-token's head. The bag head is dropped, so decoding costs what next-token's costs.",
        dropped="the bag head",
        options={
            "horizon": "how many tokens ahead the bag reaches, at least 2; `none` is to the answer's end",
            "weight": "of the bag loss, a mean over symbols, beside next-token's",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        horizon: int | None = None,
        weight: float = 1.0,
    ) -> None:
        """Raises ``RequestError`` on an impossible option."""
        super().__init__(backbone, vocab, generator)
        if horizon is not None and horizon < 2:
            raise RequestError(f"future-bag: horizon={horizon} must be at least 2 tokens, or none for the whole answer")
        if not 0.0 < weight < math.inf:
            raise RequestError(f"future-bag: weight={weight} must be above 0 and finite")
        self.horizon, self.weight = horizon, weight
        self.bag_head = nn.Parameter(torch.empty(len(vocab), backbone.width).normal_(0, INIT_STD, generator=generator))

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        hidden = answer_states(self.backbone, batch.tokens, batch)
        out = answer_loss(self.backbone.logits(hidden), batch, "next-token")
        answered = batch.in_answer()[:, first:last]
        bags = future_bags(batch.tokens[:, first:last], answered, len(self.vocab), self.horizon)
        scores = functional.linear(hidden, self.bag_head).float()
        losses = functional.binary_cross_entropy_with_logits(scores, bags, reduction="none").mean(-1)
        bag = self.weight * (losses * answered).sum() / batch.answer_len.sum()
        return LossOut(out.total + bag, {**out.parts, "future-bag": bag}, out.per_token)


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
    counts = torch.zeros(*coming.shape[:2], symbols, device=answers.device).scatter_add_(2, index, coming.float())
    return counts.clamp_max_(1)
