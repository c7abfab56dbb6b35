"""A stack of recurrent layers as a backbone: what Mamba and Mamba-2 have in common.

A token table, pre-norm layers with their residual connections, a final root-mean-square norm, and a head that may be
tied to the table. There are no positions, and nothing but what came before is read.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from foresee.backbones.base import Layer
from foresee.backbones.capabilities import Attend
from foresee.backbones.scratch import ScratchBackbone, draw_table
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

NORM_EPS = 1e-5
DT_RANGE = (0.001, 0.1)
DT_FLOOR = 1e-4


def uniform(bound: float, generator: torch.Generator, *shape: int) -> nn.Parameter:
    """A weight drawn uniformly within ``bound`` of zero."""
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))


def time_step_bias(size: int, generator: torch.Generator) -> nn.Parameter:
    """[size] biases whose softplus is log-uniform in [0.001, 0.1] and at least 0.0001, as in Mamba's code."""
    shortest, longest = (math.log(limit) for limit in DT_RANGE)
    dt = torch.empty(size).uniform_(shortest, longest, generator=generator).exp_().clamp_(min=DT_FLOOR)
    return nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus


class RecurrentLayer(nn.Module, ABC):
    """One layer, its norm and residual connection included."""

    products: ClassVar[tuple[str, ...]]
    """Its parameters that are weights of matrix products."""

    @abstractmethod
    def forward(self, x: Tensor, keep: slice | None = None) -> Tensor:
        """The residual stream x [B, T, D] -> the same after this layer, at the positions in ``keep``."""

    @abstractmethod
    def start(self, x: Tensor, keep: slice | None) -> tuple[Tensor, Any]:
        """As ``forward``, and what decoding continues from: tensors [B, ...] of a size that does not grow."""

    @abstractmethod
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One position: x [B, D]. The given state is spent."""


class _LastLayer(Layer):
    """A layer and a final norm of its own."""

    def __init__(self, layer: RecurrentLayer, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        out: Tensor = self.norm(self.layer(z, keep))
        return out


class RecurrentBackbone(ScratchBackbone):
    """Subclasses give ``fresh_layer`` and call ``build`` at the end of their constructor."""

    name: ClassVar[str]

    def build(self, vocab: Vocabulary, generator: torch.Generator, layers: int, width: int, tied: bool) -> None:
        """Draws the weights: table, layers from the first to the last, head."""
        self.vocab_size, self.width = len(vocab), width
        self.token_table = draw_table(len(vocab), width, generator) if vocab else None
        self.layers = nn.ModuleList(self.fresh_layer(generator) for _ in range(layers))
        self.final_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.head = draw_table(len(vocab), width, generator) if vocab and not tied else None

    @abstractmethod
    def fresh_layer(self, generator: torch.Generator) -> RecurrentLayer:
        """One more layer of this backbone's kind and size."""

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        if isinstance(attend, Tensor) or attend != "causal":
            raise RequestError(f"{self.name}: a recurrent model only reads what came before; leave attend='causal'")
        if positions is not None:
            raise RequestError(f"{self.name}: a recurrent model has no positions that could be given; leave them out")
        if keep is not None:
            first, end, _ = keep.indices(x.shape[1])
            x, keep = x[:, :end], slice(first, end)  # nothing reads what comes after the last wanted position
        return self.with_trunk(x, keep=keep)[1]

    def with_trunk(self, x: Tensor, *, keep: slice | None = None) -> tuple[Tensor, Tensor]:
        for each in self.layers[:-1]:
            x = self.run_layer(each, x)
        return x, self.final_norm(self.run_layer(self.layers[-1], x, keep))

    def last_layer(self, generator: torch.Generator) -> Layer:
        return _LastLayer(self.fresh_layer(generator), nn.RMSNorm(self.width, eps=NORM_EPS))

    def layer_list(self) -> Sequence[RecurrentLayer]:
        return [each for each in self.layers if isinstance(each, RecurrentLayer)]

    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, list[Any]]:
        states, last = [], slice(x.shape[1] - 1, x.shape[1])
        for index, each in enumerate(self.layer_list()):
            x, state = each.start(x, last if index == len(self.layers) - 1 else None)
            states.append(state)
        return self.final_norm(x)[:, -1], states

    def step(self, x: Tensor, state: Sequence[Any]) -> tuple[Tensor, list[Any]]:
        states = []
        for each, before in zip(self.layer_list(), state, strict=True):
            x, after = each.step(x, before)
            states.append(after)
        return self.final_norm(x), states

    def flops_per_token(self) -> int:
        products = [each.get_parameter(name) for each in self.layer_list() for name in each.products]
        return self.vocab_size * self.width + sum(weight.numel() for weight in products)
