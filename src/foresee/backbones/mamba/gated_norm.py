"""The gated norm at the end of a Mamba-2 layer, ``rms_norm(y * silu(gate)) * weight``, with a backward pass of its own.

A dozen passes over activations would otherwise go through memory, and half as many be kept for the backward pass. Here
a CPU works on blocks of rows that stay in its cache, always in float32, and nothing but the inputs is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

BLOCK_BYTES = 1 << 19
"""One float32 buffer of a block on a CPU, of which a handful are in use. Measured at 768 channels: between half and
twice of this cost the same, and no blocks at all a third more."""


def gated_norm(y: Tensor, gate: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """y and gate [..., D], weight [D] -> [..., D] in y's type: each of ``groups`` equal parts of the channels is
    divided by its own root mean square, in float32 (float64). Not differentiable twice."""
    out: Tensor = _GatedNorm.apply(y, gate, weight, groups, eps)  # type: ignore[no-untyped-call]  # torch leaves apply without types
    return out


def _blocks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """[..., D] each, as matching blocks [rows, D]: all rows at once where there is no cache to fit."""
    flat = [value.flatten(0, -2) for value in tensors]
    rows, width = flat[0].shape
    block = rows if flat[0].device.type != "cpu" else BLOCK_BYTES // (4 * width)
    return list(zip(*(torch.split(value, max(1, block)) for value in flat), strict=True))


def _inverse_rms(product: Tensor, eps: float) -> Tensor:
    """[rows, G, D / G] -> [rows, G, 1]."""
    size = product.shape[-1]
    norm: Tensor = torch.linalg.vector_norm(product, dim=-1, keepdim=True)
    return norm.square_().div_(size).add_(eps).rsqrt_()


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, gate: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
        ctx.save_for_backward(y, gate, weight)
        ctx.groups, ctx.eps = groups, eps
        high = torch.promote_types(y.dtype, torch.float32)
        out = torch.empty_like(y, memory_format=torch.contiguous_format)
        for inputs, gates, target in _blocks(y, gate, out):
            product = torch.unflatten(functional.silu(gates.to(high)).mul_(inputs), -1, (groups, -1))
            product *= _inverse_rms(product, eps)
            target.copy_(product.flatten(-2).mul_(weight))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        y, gate, weight = ctx.saved_tensors
        high = torch.promote_types(y.dtype, torch.float32)
        grad_y, grad_gate = (torch.empty_like(value, memory_format=torch.contiguous_format) for value in (y, gate))
        grad_weight = torch.zeros_like(weight, dtype=high)
        for inputs, gates, above, to_y, to_gate in _blocks(y, gate, gradients[0].contiguous(), grad_y, grad_gate):
            inputs, gates, above = inputs.to(high), gates.to(high), above.to(high)
            opened = torch.sigmoid(gates)
            active = opened * gates
            product = torch.unflatten(active * inputs, -1, (ctx.groups, -1))
            scale = _inverse_rms(product, ctx.eps)
            normed = product.mul_(scale)
            grad_weight += (above * normed.flatten(-2)).sum(0)
            grad = torch.unflatten(above * weight, -1, (ctx.groups, -1))
            along = (grad * normed).mean(-1, keepdim=True)  # what only changes the root mean square
            grad = grad.addcmul_(normed, along, value=-1).mul_(scale).flatten(-2)
            to_y.copy_(grad * active)
            slope = opened.addcmul_(active, 1 - opened)  # of silu
            to_gate.copy_(grad.mul_(inputs).mul_(slope))
        return grad_y, grad_gate, grad_weight.to(weight.dtype), None, None
