"""Multi-token prediction in sequence: small modules predict further tokens with the earlier ones shown.

DeepSeek-V3 (arXiv 2412.19437, section 2.2). Fed: the sequence, as for next-token. Predicted: with ``h^0_t`` the
backbone's final state, module k = 1, ..., ``depth`` has

    u_t = M_k [norm(h^{k-1}_t) ; norm(e(x_{t+k}))],    h^k = layer_k(u), read causally over t,

and ``softmax(U h^k_t)`` predicts x_{t+k+1}. Norms are RMS norms, M_k is [D, 2D] without bias, layer_k is one layer of
the backbone's kind with a final norm; embeddings e and output head U are the backbone's. So module k at t has been
shown x_1, ..., x_{t+k} and no more: every module is teacher-forced, and on path-star only a module whose position
does not see the branch token yet learns the branch. Dropped at decoding: the modules; what remains is the next-token
model.

Which pairs (t, k) count is decided by the target: those where x_{t+k+1} is an answer token. The loss is next-token's
plus ``weight / depth`` times the sum of the modules' losses, each summed over its pairs and divided by the batch's
answer tokens (the mean over its pairs, where prompts have more than k tokens).

Deviations. The paper trains on all tokens of text; only answer tokens are targets here. Positions whose x_{t+k} lies
beyond the sequence are left out of module k's stream; causal reading keeps them from all others. Each state passes
the final norm of its layer before the next module's own norm. M_k starts at N(0, 0.02), layers as the backbone's own.
Rows that share a prefix are read apart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.base import Backbone, Layer
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.multi_token import fresh_layer, loss_from
from foresee.objectives.next_token import NextToken, answer_loss

INIT_STD = 0.02

NORM_EPS = 1e-6


@objectives.register("multi-token-sequential")
class MultiTokenSequential(NextToken):
    """Options: ``depth``, how many modules, each one token further (1, as DeepSeek-V3); ``weight`` of their mean loss
    beside next-token's (0.3; DeepSeek-V3 has 0.3 first and 0.1 later)."""

    summary = "modules in sequence predict one token further each, the earlier ones shown (DeepSeek-V3)"

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a1 a2 a3",
                (
                    Lane("next token", "next-token", ". . a1 a2 a3 a4"),
                    Lane("module 1", "module-1", ". a1 a2 a3 a4 .", shown=". p3 a1 a2 a3 .", dropped=True),
                ),
            ),
        )
    )
    explanation = Explanation(
        Family.AHEAD,
        "A small module joins each state with the *true* next token, reads what it has joined from left to right with "
        "one more layer, and predicts the token after; a second would stand on the first, and so on. So every module "
        "is teacher-forced too, and on path-star only where its position does not see the branch token yet does it "
        "learn anything about the branch.",
        f"DeepSeek-V3, {arxiv('2412.19437')}, section 2.2.",
        "One token at a time by the backbone. The modules are dropped, so decoding costs what next-token's costs.",
        dropped="the modules",
        options={
            "depth": "how many modules, each one token further",
            "weight": "of the modules' mean loss beside next-token's",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        depth: int = 1,
        weight: float = 0.3,
    ) -> None:
        """Raises ``RequestError`` on an impossible option and on a backbone without single layers."""
        super().__init__(backbone, vocab, generator)
        if depth < 1:
            raise RequestError(f"multi-token-sequential: depth={depth} must be at least 1 module")
        if not 0.0 < weight < math.inf:
            raise RequestError(f"multi-token-sequential: weight={weight} must be above 0 and finite")
        self.weight = weight
        self.chain = nn.ModuleList(
            PredictionModule(backbone.width, fresh_layer("multi-token-sequential", backbone, generator), generator)
            for _ in range(depth)
        )

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        shown = batch.tokens[:, : last - 1]
        hidden: Tensor = self.backbone(self.backbone.embed(shown))
        out = answer_loss(self.backbone.logits(hidden[:, first - 1 :]), batch, "next-token")
        symbols = self.backbone.embed(torch.arange(len(self.vocab), device=shown.device))
        parts = dict(out.parts)
        for further, module in enumerate(self.chain, start=1):
            positions = last - 1 - further  # those whose target lies before the end
            column = max(first, further + 1)  # the first answer column that such a position predicts
            if column >= last:
                parts[f"module-{further}"] = out.total.new_zeros(())
                continue
            wanted = column - 1 - further
            # The next module reads every position of this one.
            keep = slice(wanted, positions) if further == len(self.chain) else None
            hidden = module(hidden[:, :positions], shown[:, further:], symbols, keep=keep)
            logits = self.backbone.logits(hidden if keep else hidden[:, wanted:])
            parts[f"module-{further}"] = self.weight / len(self.chain) * loss_from(logits, batch, column)
        return LossOut(torch.stack(list(parts.values())).sum(), parts, out.per_token)


class PredictionModule(nn.Module):
    """Joins a state and a later token's embedding, and puts a layer on top."""

    def __init__(self, width: int, layer: Layer, generator: torch.Generator) -> None:
        super().__init__()
        self.state_norm, self.token_norm = nn.RMSNorm(width, NORM_EPS), nn.RMSNorm(width, NORM_EPS)
        self.projection = nn.Parameter(torch.empty(width, 2 * width).normal_(0, INIT_STD, generator=generator))
        self.layer = layer

    def forward(self, states: Tensor, tokens: Tensor, symbols: Tensor, *, keep: slice | None = None) -> Tensor:
        """States [B, T, D], later tokens [B, T], all symbols' embeddings [V, D] -> states [B, T, D], or [B, K, D] at
        the positions in ``keep``."""
        of_states, of_tokens = self.projection.chunk(2, -1)
        # The token's half of the product is the same wherever a symbol stands: once a symbol, not once a position. Sums
        # are in the states' own precision, that of a residual stream, also where products are bfloat16.
        told = functional.linear(self.token_norm(symbols), of_tokens).to(states.dtype)
        joined = functional.linear(self.state_norm(states), of_states) + functional.embedding(tokens, told)
        out: Tensor = self.layer(joined, keep=keep)
        return out
