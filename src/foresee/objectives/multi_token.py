"""Multi-token prediction with parallel heads: every position predicts the next n tokens at once.

Gloeckle et al. 2024 (arXiv 2404.19737). Fed: the sequence, as for next-token. Predicted: with z_t the trunk's state,
that is the input of the backbone's last layer, head j gives ``p(x_{t+j} | x_1, ..., x_t) = softmax(U
norm_j(layer_j(z)_t))`` for j = 1, ..., ``heads``. Head 1 is the backbone's own last layer; each other is one more
layer of the backbone's kind with a norm of its own, beside it, so every path is as deep as next-token's. The output
head U is shared. Dropped at decoding: heads 2 to n; what remains is the next-token model.

Which pairs (t, j) count is decided by the target: those where x_{t+j} is an answer token. So the last n positions of
the prompt too predict answer tokens, of which none is revealed to them. The loss is the sum of the heads' losses,
each summed over its pairs and divided by the batch's answer tokens; every pair weighs the same, and where prompts
have at least n tokens a head's loss is the mean over its pairs. ``weight = 1 / (n - 1)`` gives the form ``L_1 +
mean(L_2, ..., L_n)``.

Deviations. The paper trains on all tokens of text; only answer tokens are targets here. It runs the heads' backward
passes one after the other to hold one head's logits at a time, which changes no gradient; here logits are small and
the backward pass is one. It does not say how new layers start; here as the backbone's own. Rows that share a prefix
are read apart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from foresee.backbones.base import Backbone, Layer
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, cross_entropy, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import NextToken, answer_loss


@objectives.register("multi-token")
class MultiToken(NextToken):
    """Options: ``heads``, how many tokens each position predicts, the next one included (4: the larger of the two sizes
    that the token-order paper ran on path-star); ``weight`` of each further head's loss beside next-token's (1, as in
    the paper's plain sum)."""

    summary = "parallel heads beside the last layer predict the next n tokens from each position (MTP)"

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a1 a2 a3",
                (
                    Lane("next token", "next-token", ". . a1 a2 a3 a4"),
                    Lane("head 2", "head-2", ". a1 a2 a3 a4 .", dropped=True),
                    Lane("head 3", "head-3", "a1 a2 a3 a4 . .", dropped=True),
                ),
                reader="trunk, then one layer a head",
            ),
        ),
        options="heads=3",
    )
    explanation = Explanation(
        Family.AHEAD,
        "Every position predicts the next tokens at once, by heads that stand side by side on a shared trunk. Each "
        "head is one layer of the backbone's kind, so that every path is as deep as next-token's. Targets decide what "
        "counts: the last positions of the prompt predict answer tokens too, with none of the answer shown to them.",
        f"Gloeckle et al. 2024, {arxiv('2404.19737')}.",
        "One token at a time by the first head, which is the next-token model. The other heads are dropped, so "
        "decoding costs what next-token's costs.",
        dropped="heads 2 to n",
        options={
            "heads": "how many tokens each position predicts, the next one included",
            "weight": "of each further head's loss beside next-token's",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        heads: int = 4,
        weight: float = 1.0,
    ) -> None:
        """Raises ``RequestError`` on an impossible option and on a backbone without single layers."""
        super().__init__(backbone, vocab, generator)
        if heads < 2:
            raise RequestError(f"multi-token: heads={heads} must be at least 2; one head alone is next-token")
        if not 0.0 < weight < math.inf:
            raise RequestError(f"multi-token: weight={weight} must be above 0 and finite")
        self.weight = weight
        self.further_heads = nn.ModuleList(fresh_layer("multi-token", backbone, generator) for _ in range(heads - 1))

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        shown = self.backbone.embed(batch.tokens[:, : last - 1])
        trunk, hidden = self.backbone.with_trunk(shown, keep=slice(first - 1, last - 1))
        out = answer_loss(self.backbone.logits(hidden), batch, "next-token")
        parts = dict(out.parts)
        for ahead, head in enumerate(self.further_heads, start=2):
            column = max(first, ahead)  # the first answer column that has a position ``ahead`` tokens before it
            if column >= last:
                parts[f"head-{ahead}"] = out.total.new_zeros(())
                continue
            states = head(trunk[:, : last - ahead], keep=slice(column - ahead, last - ahead))
            parts[f"head-{ahead}"] = self.weight * loss_from(self.backbone.logits(states), batch, column)
        return LossOut(torch.stack(list(parts.values())).sum(), parts, out.per_token)


def loss_from(logits: Tensor, batch: Batch, column: int) -> Tensor:
    """Cross entropy [] of logits [B, K, V] for the tokens in columns ``column`` to ``layout.last``, summed over those
    that are answer tokens and divided by the number of all answer tokens in the batch."""
    last = batch.layout.last
    losses = cross_entropy(logits, batch.tokens[:, column:last])
    if batch.layout.uniform:
        return losses.sum() / (len(batch) * batch.layout.width)
    return (losses * batch.in_answer()[:, column:last]).sum() / batch.answer_len.sum()


def fresh_layer(objective: str, backbone: Backbone, generator: torch.Generator) -> Layer:
    """``backbone.last_layer``, with the objective named where it is refused."""
    try:
        return backbone.last_layer(generator)
    except RequestError as error:
        raise RequestError(f"objective {objective!r} adds layers of the backbone's own kind, but {error}") from error
