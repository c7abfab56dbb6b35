"""Mamba from scratch (Gu & Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces").

Pre-norm layers, ``x += mixer(norm(x))`` (figure 3), a final norm, and an output head tied to the token table. All norms
are root-mean-square norms. It has no positions and reads only backwards.

Initial weights are those of the authors' code (``mamba_ssm``, modules/mamba_simple.py and models/mixer_seq_simple.py):
token table N(0, 0.02); A = -(1, ..., N) in every channel; D one; the bias of dt such that softplus gives a log-uniform
draw from [0.001, 0.1], at least 0.0001; the projection to dt uniform within 1 / sqrt(rank), other weights within
1 / sqrt(inputs), the convolution's bias among them; the projection back to the residual stream divided by sqrt(layers).
The transformers library starts otherwise: token table and projections N(0, 0.1), the convolution's bias zero, and the
last projection undivided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.base import backbones
from foresee.backbones.mamba.selective_scan import continue_scan, scan_step, selective_scan
from foresee.backbones.mamba.stack import (
    NORM_EPS,
    Operands,
    RecurrentBackbone,
    RecurrentLayer,
    Scan,
    time_step_bias,
    uniform,
)
from foresee.core.bounds import Bounds
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class MambaLayer(RecurrentLayer):
    """One layer. ``in_proj`` gives the scan's channels, then the gate; ``x_proj`` gives what dt is projected from, then
    B, then C, in that order of rows."""

    scan = Scan(selective_scan, continue_scan, scan_step)
    products = ("in_proj", "x_proj", "dt_proj", "out_proj")
    undecayed = frozenset({"A_log"})

    def __init__(
        self, rng: torch.Generator, *, layers: int, width: int, state: int, convolution: int, expansion: int,
        time_step_rank: int,
    ) -> None:  # fmt: skip
        super().__init__()
        inner, rank = expansion * width, time_step_rank
        self.inner, self.parts = inner, [rank, state, state]
        self.norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.in_proj = uniform(width**-0.5, rng, 2 * inner, width)
        self.convolution_weight = uniform(convolution**-0.5, rng, inner, convolution)
        self.convolution_bias = uniform(convolution**-0.5, rng, inner)
        self.x_proj = uniform(inner**-0.5, rng, sum(self.parts), inner)
        self.dt_proj = uniform(rank**-0.5, rng, inner, rank)
        self.dt_bias = time_step_bias(inner, rng)
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = uniform((inner * layers) ** -0.5, rng, width, inner)

    def project(self, x: Tensor, keep: slice | None) -> tuple[Tensor, Tensor, None]:
        normed = self.norm(x)
        if keep is None:
            inputs, gate = functional.linear(normed, self.in_proj).chunk(2, -1)
            return inputs, gate, None
        inputs = functional.linear(normed, self.in_proj[: self.inner])
        return inputs, functional.linear(normed[:, keep], self.in_proj[self.inner :]), None

    def operands(self, convolved: Tensor, rest: Tensor | None) -> Operands:
        """x and dt [..., channels], A [channels, N], B and C [..., N], D [channels]."""
        x = functional.silu(convolved)
        dt, B, C = torch.split(functional.linear(x, self.x_proj), self.parts, -1)
        high = torch.promote_types(x.dtype, torch.float32)
        dt = functional.softplus(functional.linear(dt, self.dt_proj).to(high) + self.dt_bias)
        return x, dt, -self.A_log.to(high).exp(), B, C, self.D

    def finish(self, x: Tensor, y: Tensor, gate: Tensor, keep: slice | None) -> Tensor:
        if keep is not None:
            x, y = x[:, keep], y[:, keep]
        return x + functional.linear(y * functional.silu(gate), self.out_proj)


@backbones.register("mamba")
class Mamba(RecurrentBackbone):
    """Options: ``layers``, ``width``; ``state``, the numbers kept for each channel; ``convolution``, taps;
    ``expansion``, channels as a multiple of ``width``; ``time_step_rank``, of the projection to the time steps (width /
    16, rounded up); ``tied``, one table for embedding and head."""

    name = "mamba"
    summary = "Mamba: selective state spaces from scratch; reads any length, decodes at constant cost"

    def __init__(
        self,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        layers: Annotated[int, Bounds(1)],
        width: Annotated[int, Bounds(1)],
        state: Annotated[int, Bounds(1)] = 16,
        convolution: Annotated[int, Bounds(1)] = 4,
        expansion: Annotated[int, Bounds(1)] = 2,
        time_step_rank: Annotated[int | None, Bounds(1)] = None,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.sizes = {
            "layers": layers, "width": width, "state": state, "convolution": convolution, "expansion": expansion,
            "time_step_rank": -(-width // 16) if time_step_rank is None else time_step_rank,
        }  # fmt: skip
        self.build(vocab, generator, layers, width, tied)

    def fresh_layer(self, generator: torch.Generator) -> MambaLayer:
        return MambaLayer(generator, **self.sizes)

    def counterpart(self) -> PreTrainedModel:
        # Not at the top: reading the library takes a second, and only an export needs it.
        from foresee.backbones.counterparts.models import mamba_counterpart

        return mamba_counterpart(self)


backbones.preset("mamba-nano", "mamba:layers=3,width=128")
