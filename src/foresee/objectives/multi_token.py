"""Multi-token prediction with parallel heads: every position predicts the next n tokens at once.

Heads stand side by side on a shared trunk. Targets decide what counts: the prompt's last positions predict answer
tokens too, with none of the answer known to them.

Family: several tokens in advance.
Source: Gloeckle et al. 2024, arXiv 2404.19737.
Loss: with z_t the input of the backbone's last layer, ``p(x_{t+j} | x_1 ... x_t) = softmax(U norm_j(layer_j(z)_t))``
for j = 1 to ``heads``. Head 1 is the backbone's last layer; each other is one more layer and norm, so that every path
is as deep; U is shared. The loss is head 1's plus ``weight`` times each further head's, summed over pairs (t, j) with
x_{t+j} in the answer and divided by the batch's answer tokens.
Curriculum: ``forward`` begins with head 1 alone and adds head after head, the nearest first; ``reverse`` begins with
all and drops the farthest first (Aynetdinov & Akbik 2025, arXiv 2505.22757); in ``heads`` stages of as many steps.
Decoding: as next-token, by the first head.
Dropped: heads 2 to n.
Deviations: the paper's sum is plain, ``weight=1``; with four heads that weighs what lies ahead three times as much as
the next token and delays the look-ups, and ``1 / (n - 1)`` is NextLat's largest. The paper trains on all tokens of
text. Its backward passes, one a head to save memory, are one here. New layers start as the backbone's own (the paper
does not say). How long the curriculum paper's stages are was not read; head 1 is never dropped here.
Drawing, heads=3:
    fed         p1 p2 p3 a1 a2 a3
    reader      trunk, then one layer a head
    next token  . . a1 a2 a3 a4
    ~head 2     . a1 a2 a3 a4 .
    ~head 3     a1 a2 a3 a4 . .
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import nn

from foresee.backbones import Backbone
from foresee.backbones.base import Layer
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_loss, further_loss, trunk_and_answer_states


@objectives.register("multi-token", later=("curriculum",))
class MultiToken(NextToken):
    """Defaults: the larger of the two sizes that the token-order paper ran on path-star.

    Options:
        heads: how many tokens each position predicts, the next one included
        weight: of each further head's loss beside next-token's; `none` is 1 / (heads - 1), a mean of them
        curriculum: which heads are trained when: all always, added one by one, or dropped one by one
    """

    summary = "parallel heads beside the last layer predict the next n tokens from each position (MTP)"
    recordable = True

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        heads: Annotated[int, Bounds(2, why="one head alone is next-token")] = 4,
        weight: Annotated[float | None, Bounds(above=0)] = None,
        curriculum: Literal["constant", "forward", "reverse"] = "constant",
    ) -> None:
        """Raises ``RequestError`` on a backbone without single layers."""
        super().__init__(backbone, vocab, generator)
        self.weight = 1 / (heads - 1) if weight is None else weight
        self.further_heads = nn.ModuleList(create_layer("multi-token", backbone, generator) for _ in range(heads - 1))
        self.curriculum = curriculum
        self.recordable = curriculum == "constant"
        self.trained = heads - 1  # of the further heads, the nearest first

    def begin_step(self, step: int, steps: int) -> None:
        further = len(self.further_heads)
        stage = min(further, (further + 1) * step // steps)  # 0 to heads - 1
        self.trained = {"constant": further, "forward": stage, "reverse": further - stage}[self.curriculum]

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        trunk, states = trunk_and_answer_states(self.backbone, batch.tokens, batch)
        out = answer_loss(self.backbone.logits(states), batch, "next-token")
        further = {f"head-{ahead}": out.total.new_zeros(()) for ahead in range(2, len(self.further_heads) + 2)}
        for ahead, head in enumerate(self.further_heads[: self.trained], start=2):
            column = max(first, ahead)  # the first answer column that has a position ``ahead`` tokens before it
            if column < last:
                states = head(trunk[:, : last - ahead], keep=slice(column - ahead, last - ahead))
                further[f"head-{ahead}"] = self.weight * further_loss(self.backbone.logits(states), batch)
        return out.plus(further)


def create_layer(objective: str, backbone: Backbone, generator: torch.Generator) -> Layer:
    """``backbone.last_layer``, with the objective named where it is refused."""
    try:
        return backbone.last_layer(generator)
    except RequestError as error:
        raise RequestError(f"objective {objective!r} adds layers of the backbone's own kind, but {error}") from error
