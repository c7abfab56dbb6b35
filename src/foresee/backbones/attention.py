"""The attention core: softmax(q k' * scale + mask) v, by the quickest route for the device and length.

On a CPU at the lengths of these tasks, PyTorch's fused attention spends most of a training step in its backward pass,
and a bfloat16 softmax is several times slower than a float32 one. So short sequences on a CPU take two matrix products
with a float32 softmax between them and a backward pass of our own, which saves only the probabilities. Everything else
takes ``scaled_dot_product_attention``. ``benchmarks/attention.py`` measures where the routes cross.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from foresee.core.batch import are_batched

LONGEST_UNFUSED = 512
"""Up to this many keys a CPU takes the unfused route. Measured forward and backward (benchmarks/attention.py): in
bfloat16 it is 11 times as quick at 16 keys, 1.4 times here, and slower at 1,024, where the [T, T] probabilities cost
memory too; in float32 it is a fifth slower than the fused one by itself, and no different within a training step."""


class _UnfusedAttention(torch.autograd.Function):
    """Shapes: q [B, H, Q, d], k and v [B, H, K, d], mask broadcastable to [B, H, Q, K] (0 or -inf, float32)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        # Once here, and not in every product of both passes: a transposed view of a strided tensor is slow to copy.
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        scale = 1.0 / math.sqrt(q.shape[-1])
        scores = (q @ k.transpose(-1, -2)).to(torch.promote_types(q.dtype, torch.float32)).mul_(scale)
        if mask is not None:
            scores += mask
        probabilities = torch.softmax(scores, -1).to(q.dtype)
        ctx.save_for_backward(q, k, v, probabilities)
        ctx.scale = scale
        return probabilities @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, probabilities = ctx.saved_tensors
        grad_out = gradients[0].contiguous()
        grad_v = probabilities.transpose(-1, -2) @ grad_out
        wide = torch.promote_types(q.dtype, torch.float32)
        grad_probabilities = (grad_out @ v.transpose(-1, -2)).to(wide)
        p = probabilities.to(wide)
        # Softmax backward: p * (g - sum(g * p)), in place on buffers that nobody else holds.
        grad_probabilities -= (grad_probabilities * p).sum(-1, keepdim=True)
        grad_scores = grad_probabilities.mul_(p).mul_(ctx.scale).to(q.dtype)
        return grad_scores @ k, grad_scores.transpose(-1, -2) @ q, grad_v, None


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask (True: may read) as what is added to scores: 0 or -inf."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, -math.inf)


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """q [B, H, Q, d], k and v [B, H, K, d] -> [B, H, Q, d]. ``visible`` is bool, broadcastable to [B, H, Q, K]; None
    lets every query read every key. A query that may read nothing gives NaN."""
    if _is_short(q, k):
        return unfused_attention(q, k, v, visible)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)


def unfused_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """As ``attention``, by the unfused route whatever the device and length."""
    wide = torch.promote_types(q.dtype, torch.float32)
    mask = None if visible is None else additive(visible, wide)
    if are_batched():  # of which a backward pass of our own knows nothing
        scores = (q @ k.transpose(-1, -2)).to(wide) / math.sqrt(q.shape[-1])
        return torch.softmax(scores if mask is None else scores + mask, -1).to(q.dtype) @ v
    out: Tensor = _UnfusedAttention.apply(q, k, v, mask)  # type: ignore[no-untyped-call]  # torch leaves apply without types
    return out


def _is_short(q: Tensor, k: Tensor) -> bool:
    # The fused kernel of a GPU refuses a mask under ``vmap``.
    return (q.device.type == "cpu" or are_batched()) and k.shape[-2] <= LONGEST_UNFUSED


def causal_attention(q: Tensor, k: Tensor, v: Tensor, first: int = 0) -> Tensor:
    """As ``attention``, where query i stands at position ``first + i`` and reads the keys up to and including its own.
    There may be more keys than that: the rest, which must be finite, are never read."""
    end = first + q.shape[-2]
    if not _is_short(q, k):
        k, v = k[..., :end, :], v[..., :end, :]
        if first == 0:
            # No mask tensor: this is what lets the fused kernels skip the upper triangle.
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        if q.shape[-2] == 1:
            return functional.scaled_dot_product_attention(q, k, v)
    rows = torch.arange(first, end, device=q.device)
    columns = torch.arange(k.shape[-2], device=q.device)
    return attention(q, k, v, columns[None, :] <= rows[:, None])


def causal_probabilities(q: Tensor, k: Tensor) -> Tensor:
    """q and k [B, H, T, d] -> float32 [B, H, T, T]: what ``causal_attention`` weighs the values with, to look at."""
    length = q.shape[-2]
    scores = (q.float() @ k.float().transpose(-1, -2)) / math.sqrt(q.shape[-1])
    later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    return torch.softmax(scores.masked_fill(later, -math.inf), -1)
