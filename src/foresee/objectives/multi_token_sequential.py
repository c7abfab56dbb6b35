"""Multi-token prediction in sequence: small modules predict further tokens with the earlier ones given.

A module joins each state with the *true* next token, reads the result with one more causal layer, and predicts the
token after; the next module stands on it. So modules are teacher-forced too, and learn of the branch only where it is
not read yet.

Family: several tokens in advance.
Source: DeepSeek-V3, arXiv 2412.19437, section 2.2.
Loss: with ``h^0_t`` the backbone's final state, module k = 1 to ``depth`` has ``h^k = layer_k(M_k [norm(h^{k-1}_t) ;
norm(e(x_{t+k}))])``, and ``softmax(U h^k_t)`` predicts x_{t+k+1}. Norms are RMS norms, M_k is [D, 2D] without bias,
layer_k has a final norm; e and U are the backbone's. Next-token's plus ``weight / depth`` times the sum of the modules'
losses, each summed over pairs (t, k) with x_{t+k+1} in the answer and divided by the batch's answer tokens.
Decoding: as next-token.
Dropped: the modules.
Deviations: the paper trains on all tokens of text. Positions whose x_{t+k} lies beyond the sequence are left out. Each
state passes its layer's final norm before the next module's.
Drawing:
    fed         p1 p2 p3 a1 a2 a3
    next token  . . a1 a2 a3 a4
    ~module 1   . a1 a2 a3 a4 .
    +           . p3 a1 a2 a3 .
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.backbones.base import Layer
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, draw_weights, objectives
from foresee.objectives.multi_token import create_layer
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_loss, further_loss, states_from

NORM_EPS = 1e-6


@objectives.register("multi-token-sequential")
class MultiTokenSequential(NextToken):
    """Defaults are DeepSeek-V3's, whose weight is 0.3 first and 0.1 later.

    Options:
        depth: how many modules, each one token further
        weight: of the modules' mean loss beside next-token's
    """

    summary = "sequential modules, each predicting one token further ahead (DeepSeek-V3)"
    recordable = True

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        depth: Annotated[int, Bounds(1)] = 1,
        weight: Annotated[float, Bounds(above=0)] = 0.3,
    ) -> None:
        """Raises ``RequestError`` on a backbone without single layers."""
        super().__init__(backbone, vocab, generator)
        self.weight = weight
        self.chain = nn.ModuleList(
            PredictionModule(backbone.width, create_layer("multi-token-sequential", backbone, generator), generator)
            for _ in range(depth)
        )

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        inputs = batch.tokens[:, : last - 1]
        states = states_from(0, self.backbone, inputs, batch)
        out = answer_loss(self.backbone.logits(states[:, first - 1 :]), batch, "next-token")
        symbols = self.backbone.embed(torch.arange(len(self.vocab), device=inputs.device))
        further = {f"module-{ahead}": out.total.new_zeros(()) for ahead in range(1, len(self.chain) + 1)}
        for ahead, module in enumerate(self.chain, start=1):
            positions = last - 1 - ahead  # those whose target lies before the end
            column = max(first, ahead + 1)  # the first answer column that such a position predicts
            if column >= last:
                break
            wanted = column - 1 - ahead
            # The next module reads every position of this one.
            keep = slice(wanted, positions) if ahead == len(self.chain) else None
            states = module(states[:, :positions], inputs[:, ahead:], symbols, keep=keep)
            logits = self.backbone.logits(states if keep else states[:, wanted:])
            further[f"module-{ahead}"] = self.weight / len(self.chain) * further_loss(logits, batch)
        return out.plus(further)


class PredictionModule(nn.Module):
    """Joins a state and a later token's embedding, and puts a layer on top."""

    def __init__(self, width: int, layer: Layer, generator: torch.Generator) -> None:
        super().__init__()
        self.state_norm, self.token_norm = nn.RMSNorm(width, NORM_EPS), nn.RMSNorm(width, NORM_EPS)
        self.projection = draw_weights(generator, width, 2 * width)
        self.layer = layer

    def forward(self, states: Tensor, tokens: Tensor, symbols: Tensor, *, keep: slice | None = None) -> Tensor:
        """States [B, T, D], later tokens [B, T], all symbols' embeddings [V, D] -> states [B, T, D], or [B, K, D] at
        the positions in ``keep``."""
        of_states, of_tokens = self.projection.chunk(2, -1)
        # The token's half of the product is the same wherever a symbol stands: once a symbol, not once a position. Sums
        # are in the states' own precision, that of a residual stream, also where products are bfloat16.
        by_symbol = functional.linear(self.token_norm(symbols), of_tokens).to(states.dtype)
        joined = functional.linear(self.state_norm(states), of_states) + functional.embedding(tokens, by_symbol)
        out: Tensor = self.layer(joined, keep=keep)
        return out
