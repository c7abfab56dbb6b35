"""The short causal convolution in front of a selective scan: one filter of a few taps for every channel.

Channels come last, as the projections around it leave them. PyTorch's ``conv1d`` wants them before time and, with one
group a channel, is several times as slow on a CPU as the same sum written as one multiply-add for each tap; hence the
function with a backward pass of its own. It works through the batch in blocks that stay in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHE_BYTES = 1 << 20
"""What one block of rows may take on a CPU: a usual second-level cache."""


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolves every channel with its own filter: x [B, T, D], weight [D, K], bias [D] -> [B, T, D] in x's type.

    ``y[b, t, d] = bias[d] + sum over k of weight[d, k] * x[b, t - K + 1 + k, d]``, with zeros before the start, summed
    in float32 (float64). Not differentiable twice.
    """
    out: Tensor = _CausalConvolution.apply(x, weight, bias)  # type: ignore[no-untyped-call]  # torch leaves apply without types
    return out


def convolution_step(x: Tensor, window: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """One more position: x [B, D] after the inputs in ``window`` [B, K - 1, D], the earliest first, or zeros before the
    start -> the output [B, D], in x's type, and the new window."""
    seen = torch.cat((window, x[:, None].to(window.dtype)), 1)
    high = torch.promote_types(x.dtype, torch.float32)
    out = (seen.to(high) * weight.to(high).T).sum(1)
    return (out if bias is None else out + bias.to(high)).to(x.dtype), seen[:, 1:]


def last_inputs(x: Tensor, taps: int) -> Tensor:
    """The window [B, K - 1, D] that ``convolution_step`` continues from, after x [B, T, D]; ``taps`` is K."""
    rows, length, channels = x.shape
    window = x.new_zeros(rows, taps - 1, channels)
    kept = min(length, taps - 1)
    if kept:
        window[:, taps - 1 - kept :] = x[:, length - kept :]
    return window


def _blocks(x: Tensor) -> list[slice]:
    """Rows of x [B, T, D] in blocks of ``CACHE_BYTES`` of float32; all at once where there is no such cache."""
    rows = len(x)
    if x.device.type != "cpu":
        return [slice(0, rows)]
    block = max(1, CACHE_BYTES // max(1, 4 * x.shape[1] * x.shape[2]))
    return [slice(first, min(rows, first + block)) for first in range(0, rows, block)]


class _CausalConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        high = torch.promote_types(x.dtype, torch.float32)
        length, taps = x.shape[1], weight.shape[1]
        by_tap = weight.detach().T.to(high).contiguous()
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for block in _blocks(x):
            inputs = x[block].to(high)
            total = inputs * by_tap[taps - 1]
            if bias is not None:
                total += bias.to(high)
            for delay in range(1, min(taps, length)):
                total[:, delay:].addcmul_(inputs[:, : length - delay], by_tap[taps - 1 - delay])
            out[block] = total
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        high = torch.promote_types(x.dtype, torch.float32)
        length, taps = x.shape[1], weight.shape[1]
        by_tap = weight.detach().T.to(high).contiguous()
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_weight = torch.zeros_like(by_tap)
        grad_bias = by_tap.new_zeros(weight.shape[0])
        for block in _blocks(x):
            inputs, above = x[block].to(high), grad[block].to(high)
            total = above * by_tap[taps - 1]
            for delay in range(min(taps, length)):
                reached = above[:, delay:]
                if delay:
                    total[:, : length - delay].addcmul_(reached, by_tap[taps - 1 - delay])
                grad_weight[taps - 1 - delay] += (reached * inputs[:, : length - delay]).sum((0, 1))
            grad_x[block] = total
            grad_bias += above.sum((0, 1))
        return grad_x, grad_weight.T.to(weight.dtype), grad_bias.to(weight.dtype) if ctx.has_bias else None
