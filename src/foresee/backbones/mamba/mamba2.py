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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.base import backbones
from foresee.backbones.mamba.gated_norm import gated_norm
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
from foresee.backbones.tables import refuse_below_one
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

A_RANGE = (1.0, 16.0)


@dataclass(frozen=True)
class Sizes:
    """The widths within a layer."""

    width: int
    state: int
    head_width: int
    groups: int
    convolution: int
    expansion: int

    @property
    def inner(self) -> int:
        """Channels of all heads together."""
        return self.expansion * self.width

    @property
    def heads(self) -> int:
        """Heads of ``head_width`` channels."""
        return self.inner // self.head_width

    @property
    def convolved(self) -> int:
        """Channels that go through the convolution: the heads' inputs, and B and C of every group."""
        return self.inner + 2 * self.groups * self.state


class Mamba2Layer(RecurrentLayer):
    """One layer. ``in_proj`` gives the gate, then what is convolved (the heads' inputs,
    B, C), then dt, in that order of rows."""

    scan = Scan(state_space_outputs, state_space_dual, state_space_step)
    products = ("in_proj", "out_proj")

    def __init__(self, sizes: Sizes, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes = sizes
        width, inner, heads = sizes.width, sizes.inner, sizes.heads
        self.norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.in_proj = uniform(width**-0.5, generator, inner + sizes.convolved + heads, width)
        self.convolution_weight = uniform(sizes.convolution**-0.5, generator, sizes.convolved, sizes.convolution)
        self.convolution_bias = uniform(sizes.convolution**-0.5, generator, sizes.convolved)
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(*A_RANGE, generator=generator).log_())
        self.dt_bias = time_step_bias(heads, generator)
        self.D = nn.Parameter(torch.ones(heads))
        self.gated_norm_weight = nn.Parameter(torch.ones(inner))
        self.out_proj = uniform((inner * layers) ** -0.5, generator, width, inner)

    def project(self, x: Tensor, keep: slice | None) -> tuple[Tensor, Tensor, Tensor]:
        normed, sizes = self.norm(x), self.sizes
        rest = [sizes.convolved, sizes.heads]
        if keep is None:
            gate, inputs, dt = torch.split(functional.linear(normed, self.in_proj), [sizes.inner, *rest], -1)
        else:
            gate = functional.linear(normed[:, keep], self.in_proj[: sizes.inner])
            inputs, dt = torch.split(functional.linear(normed, self.in_proj[sizes.inner :]), rest, -1)
        return inputs, gate, dt

    def operands(self, convolved: Tensor, rest: Tensor | None) -> Operands:
        """x [..., H, P], dt [..., H], A [H], B and C [..., G, N], D [H]; ``rest`` is dt as projected."""
        assert rest is not None
        sizes, between = self.sizes, self.sizes.groups * self.sizes.state
        x, B, C = torch.split(functional.silu(convolved), [sizes.inner, between, between], -1)
        x = torch.unflatten(x, -1, (sizes.heads, sizes.head_width))
        B, C = (torch.unflatten(value, -1, (sizes.groups, sizes.state)) for value in (B, C))
        high = torch.promote_types(rest.dtype, torch.float32)
        dt = functional.softplus(rest.to(high) + self.dt_bias)
        return x, dt, -self.A_log.to(high).exp(), B, C, self.D

    def finish(self, x: Tensor, y: Tensor, gate: Tensor, keep: slice | None) -> Tensor:
        y = y.flatten(-2)
        if keep is not None:
            x, y = x[:, keep], y[:, keep]
        normed = gated_norm(y, gate, self.gated_norm_weight, self.sizes.groups, NORM_EPS)
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
        layers: int,
        width: int,
        state: int = 64,
        head_width: int = 64,
        groups: int = 1,
        convolution: int = 4,
        expansion: int = 2,
        tied: bool = True,
    ) -> None:
        super().__init__()
        options = {
            "layers": layers, "width": width, "state": state, "head_width": head_width, "groups": groups,
            "convolution": convolution, "expansion": expansion,
        }  # fmt: skip
        refuse_below_one(self.name, options)
        self.sizes = Sizes(width, state, head_width, groups, convolution, expansion)
        if self.sizes.inner % head_width:
            raise RequestError(
                f"mamba2: expansion={expansion} times width={width} is {self.sizes.inner}, which must be a multiple of "
                f"head_width={head_width}"
            )
        if self.sizes.heads % groups:
            raise RequestError(
                f"mamba2: groups={groups} must divide the {self.sizes.heads} heads, expansion x width / head_width"
            )
        self.depth = layers
        self.build(vocab, generator, layers, width, tied)

    def fresh_layer(self, generator: torch.Generator) -> Mamba2Layer:
        return Mamba2Layer(self.sizes, self.depth, generator)

    def counterpart(self) -> PreTrainedModel:
        from foresee.backbones.counterparts.mamba import mamba2_counterpart

        return mamba2_counterpart(self)


backbones.preset("mamba2-nano", "mamba2:layers=3,width=128")
