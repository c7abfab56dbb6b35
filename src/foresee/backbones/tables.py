"""What the backbones here share: a token table, an output head, and layers that may be recomputed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, is_grad_enabled, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from foresee.backbones.base import Backbone

EMBEDDING_STD = 0.02
"""Of token tables, heads and position tables, as in GPT-2 and in Mamba's code."""


def draw_table(rows: int, width: int, generator: torch.Generator) -> nn.Parameter:
    """[rows, width] drawn from N(0, 0.02)."""
    return nn.Parameter(torch.empty(rows, width).normal_(0.0, EMBEDDING_STD, generator=generator))


class TableBackbone(Backbone):
    """Embeds by ``token_table`` and scores by ``head``, or by the table where the two are tied (``head`` is None). A
    twin has neither."""

    token_table: nn.Parameter | None
    head: nn.Parameter | None
    undecayed = frozenset({"token_table", "position_table"})

    def embed(self, tokens: Tensor) -> Tensor:
        """[B, T] -> [B, T, D]. Raises ``RuntimeError`` on a twin."""
        if self.token_table is None:
            raise RuntimeError("this backbone is a twin: it has no token table; embed with the one it was made from")
        return functional.embedding(tokens, self.token_table)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]. Raises ``RuntimeError`` on a twin."""
        return functional.linear(hidden, self.head_rows())

    def head_rows(self) -> nn.Parameter:
        """[V, D]: what scores the symbols. Raises ``RuntimeError`` on a twin."""
        rows = self.token_table if self.head is None else self.head
        if rows is None:
            raise RuntimeError("this backbone is a twin: it has no output head; use the one it was made from")
        return rows

    def run_layer(self, layer: Callable[..., Tensor], *inputs: object) -> Tensor:
        """``layer(*inputs)``; under ``recompute``, where gradients are wanted, only ``inputs`` are kept for them. A
        layer must draw no random numbers."""
        if not (self.recompute and is_grad_enabled()):
            return layer(*inputs)
        out: Tensor = checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
        return out
