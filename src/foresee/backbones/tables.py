"""The token table and output head of backbones that are made from scratch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EMBEDDING_STD = 0.02
"""Of token tables, heads and position tables, as in GPT-2 and in Mamba's code."""


def table(rows: int, width: int, generator: torch.Generator) -> nn.Parameter:
    """[rows, width] drawn from N(0, 0.02)."""
    return nn.Parameter(torch.empty(rows, width).normal_(0.0, EMBEDDING_STD, generator=generator))


def embed(tokens: Tensor, token_table: Tensor | None) -> Tensor:
    """[B, T] -> [B, T, D]. Raises ``RuntimeError`` on a twin, which has no table."""
    if token_table is None:
        raise RuntimeError("this backbone is a twin: it has no token table; embed with the one it was made from")
    return functional.embedding(tokens, token_table)


def logits(hidden: Tensor, token_table: Tensor | None, head: Tensor | None) -> Tensor:
    """[..., D] -> [..., V] by the head, or by the token table where the two are tied (``head`` is None). Raises
    ``RuntimeError`` on a twin, which has neither."""
    rows = token_table if head is None else head
    if rows is None:
        raise RuntimeError("this backbone is a twin: it has no output head; use the one it was made from")
    return functional.linear(hidden, rows)
