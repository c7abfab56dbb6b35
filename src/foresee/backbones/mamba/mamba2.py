"""Mamba-2 from scratch (Dao & Gu 2024, "Transformers are SSMs", figure 6), as in the authors' code (``mamba_ssm``,
modules/mamba2.py).

Pre-norm layers, ``x += out_proj(gated_norm(heads(convolution(...)), gate))`` with everything projected from ``norm(x)``
at once, a final norm, and an output head tied to the token table. All norms are root-mean-square norms.

Initial weights are the authors': token table N(0, 0.02); projections uniform within 1 / sqrt(inputs), the one back to
the residual stream divided by sqrt(layers); the convolution uniform within 1 / sqrt(taps); -A uniform in [1, 16]; dt
log-uniform in [0.001, 0.1] and at least 0.0001; D and the norms one. The transformers library sets -A to 1, 2, ... by
head instead, so that how fast a head forgets depends on how many there are, and the convolution's bias to zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from foresee.backbones.base import backbones
from foresee.backbones.mamba.stack import (
    NORM_EPS,
    Operands,
    RecurrentBackbone,
    RecurrentLayer,
    Scan,
    time_step_bias,
    uniform,
)
from foresee.backbones.mamba.state_space_dual import state_space_dual, state_space_outputs, state_space_step
from foresee.core.bounds import Bounds
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

A_RANGE = (1.0, 16.0)


class Mamba2Layer(RecurrentLayer):
    """One layer. ``in_proj`` gives the gate, then what is convolved (the heads' inputs,
    B, C), then dt, in that order of rows."""

    scan = Scan(state_space_outputs, state_space_dual, state_space_step)
    products = ("in_proj", "out_proj")

    def __init__(
        self, rng: torch.Generator, *, layers: int, width: int, state: int, head_width: int, groups: int,
        convolution: int, expansion: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.inner = inner = expansion * width
        self.groups, self.head_width, self.heads = groups, head_width, inner // head_width
        self.convolved = [inner, groups * state, groups * state]
        channels = sum(self.convolved)
        self.norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.in_proj = uniform(width**-0.5, rng, inner + channels + self.heads, width)
        self.convolution_weight = uniform(convolution**-0.5, rng, channels, convolution)
        self.convolution_bias = uniform(convolution**-0.5, rng, channels)
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(*A_RANGE, generator=rng).log_())
        self.dt_bias = time_step_bias(self.heads, rng)
        self.D = nn.Parameter(torch.ones(self.heads))
        self.gated_norm_weight = nn.Parameter(torch.ones(inner))
        self.out_proj = uniform((inner * layers) ** -0.5, rng, width, inner)

    def project(self, x: Tensor, keep: slice | None) -> tuple[Tensor, Tensor, Tensor]:
        normed, rest = self.norm(x), [sum(self.convolved), self.heads]
        if keep is None:
            gate, inputs, dt = torch.split(functional.linear(normed, self.in_proj), [self.inner, *rest], -1)
        else:
            gate = functional.linear(normed[:, keep], self.in_proj[: self.inner])
            inputs, dt = torch.split(functional.linear(normed, self.in_proj[self.inner :]), rest, -1)
        return inputs, gate, dt

    def operands(self, convolved: Tensor, rest: Tensor | None) -> Operands:
        """x [..., H, P], dt [..., H], A [H], B and C [..., G, N], D [H]; ``rest`` is dt as projected."""
        assert rest is not None
        x, B, C = torch.split(functional.silu(convolved), self.convolved, -1)
        x = torch.unflatten(x, -1, (self.heads, self.head_width))
        B, C = (torch.unflatten(value, -1, (self.groups, -1)) for value in (B, C))
        high = torch.promote_types(rest.dtype, torch.float32)
        dt = functional.softplus(rest.to(high) + self.dt_bias)
        return x, dt, -self.A_log.to(high).exp(), B, C, self.D

    def finish(self, x: Tensor, y: Tensor, gate: Tensor, keep: slice | None) -> Tensor:
        y = y.flatten(-2)
        if keep is not None:
            x, y = x[:, keep], y[:, keep]
        normed = gated_norm(y, gate, self.gated_norm_weight, self.groups, NORM_EPS)
        return x + functional.linear(normed, self.out_proj)


@backbones.register("mamba2")
class Mamba2(RecurrentBackbone):
    """Options: ``layers``, ``width``; ``state``, the numbers that a head keeps for each of its channels (the authors
    take 64 or 128; their layer's default is 128); ``head_width``, channels of a head; ``groups``, sets of heads that
    share B and C; ``convolution``, taps; ``expansion``, channels of all heads together as a multiple of ``width``;
    ``tied``, one table for embedding and head."""

    name = "mamba2"
    summary = "Mamba-2: state space layers as matrix products, from scratch; decodes at constant cost"

    def __init__(
        self,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        layers: Annotated[int, Bounds(1)],
        width: Annotated[int, Bounds(1)],
        state: Annotated[int, Bounds(1)] = 64,
        head_width: Annotated[int, Bounds(1)] = 64,
        groups: Annotated[int, Bounds(1)] = 1,
        convolution: Annotated[int, Bounds(1)] = 4,
        expansion: Annotated[int, Bounds(1)] = 2,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.sizes = {
            "layers": layers, "width": width, "state": state, "head_width": head_width, "groups": groups,
            "convolution": convolution, "expansion": expansion,
        }  # fmt: skip
        inner = expansion * width
        if inner % head_width:
            raise RequestError(
                f"mamba2: expansion={expansion} times width={width} is {inner}, which must be a multiple of "
                f"head_width={head_width}"
            )
        if inner // head_width % groups:
            raise RequestError(
                f"mamba2: groups={groups} must divide the {inner // head_width} heads, expansion x width / head_width"
            )
        self.build(vocab, generator, layers, width, tied)

    def fresh_layer(self, generator: torch.Generator) -> Mamba2Layer:
        return Mamba2Layer(generator, **self.sizes)

    def counterpart(self) -> PreTrainedModel:
        from foresee.backbones.counterparts.models import mamba2_counterpart

        return mamba2_counterpart(self)


backbones.preset("mamba2-nano", "mamba2:layers=3,width=128")


# The gated norm at the end of a layer has a backward pass of its own: a dozen passes over activations would otherwise
# go through memory, and half as many be kept for the backward pass. Here a CPU works on blocks of rows that stay in its
# cache, always in float32, and nothing but the inputs is kept.

BLOCK_BYTES = 1 << 19
"""One float32 buffer of a block on a CPU, of which a handful are in use. Measured at 768 channels: between half and
twice of this cost the same, and no blocks at all a third more."""


def gated_norm(y: Tensor, gate: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """``rms_norm(y * silu(gate)) * weight``: y and gate [..., D], weight [D] -> [..., D] in y's type. Each of
    ``groups`` equal parts of the channels is divided by its own root mean square, in float32 (float64). Not
    differentiable twice."""
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
