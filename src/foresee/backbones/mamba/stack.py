"""What Mamba and Mamba-2 share: a layer around a scan, and a stack of such layers as a backbone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from foresee.backbones.base import Layer, TableBackbone, draw_weights
from foresee.backbones.capabilities import Attend
from foresee.backbones.mamba.convolution import causal_convolution, convolution_step, last_inputs
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

NORM_EPS = 1e-5
DT_RANGE = (0.001, 0.1)
DT_FLOOR = 1e-4

Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def uniform(bound: float, generator: torch.Generator, *shape: int) -> nn.Parameter:
    """A weight drawn uniformly within ``bound`` of zero."""
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))


def time_step_bias(size: int, generator: torch.Generator) -> nn.Parameter:
    """[size] biases whose softplus is log-uniform in [0.001, 0.1] and at least 0.0001, as in Mamba's code."""
    shortest, longest = (math.log(limit) for limit in DT_RANGE)
    dt = torch.empty(size).uniform_(shortest, longest, generator=generator).exp_().clamp_(min=DT_FLOOR)
    return nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus


@dataclass
class LayerState:
    """What a layer remembers, of a size that does not grow: the last inputs of its convolution [B, K - 1, channels],
    and the state of its scan in float32 (float64)."""

    window: Tensor
    scan: Tensor


class Scan(NamedTuple):
    """A scan over x, dt, A, B, C, D."""

    outputs: Callable[..., Tensor]
    """Of every position, from an empty state."""
    whole: Callable[..., tuple[Tensor, Tensor]]
    """Those, and the state after them."""
    step: Callable[..., tuple[Tensor, Tensor]]
    """One position, from a state given last: its output and the new state."""


class RecurrentLayer(nn.Module, ABC):
    """One layer, its norm and residual connection included: ``x += finish(scan(convolution(project(norm(x)))))``."""

    scan: ClassVar[Scan]
    products: ClassVar[tuple[str, ...]]
    """Its parameters that are weights of matrix products."""
    convolution_weight: nn.Parameter
    convolution_bias: nn.Parameter

    def forward(self, x: Tensor, keep: slice | None = None) -> Tensor:
        """The residual stream x [B, T, D] -> the same after this layer, at the positions in ``keep``."""
        inputs, gate, rest = self.project(x, keep)
        convolved = causal_convolution(inputs, self.convolution_weight, self.convolution_bias)
        return self.finish(x, self.scan.outputs(*self.operands(convolved, rest)), gate, keep)

    def start(self, x: Tensor, keep: slice | None) -> tuple[Tensor, LayerState]:
        """As ``forward``, and what decoding continues from."""
        inputs, gate, rest = self.project(x, keep)
        convolved = causal_convolution(inputs, self.convolution_weight, self.convolution_bias)
        y, scan = self.scan.whole(*self.operands(convolved, rest))
        window = last_inputs(inputs, self.convolution_weight.shape[1])
        return self.finish(x, y, gate, keep), LayerState(window, scan)

    def step(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One position: x [B, D]. The given state is spent."""
        inputs, gate, rest = self.project(x, None)
        convolved, window = convolution_step(inputs, state.window, self.convolution_weight, self.convolution_bias)
        y, scan = self.scan.step(*self.operands(convolved, rest), state.scan)
        return self.finish(x, y, gate, None), LayerState(window, scan)

    @abstractmethod
    def project(self, x: Tensor, keep: slice | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """[..., D] -> the inputs of the convolution, the gate at the positions in ``keep``, and what goes around the
        convolution."""

    @abstractmethod
    def operands(self, convolved: Tensor, rest: Tensor | None) -> Operands:
        """x, dt, A, B, C, D of the scan, with dt and A in float32 at least: a time step is small beside its bias."""

    @abstractmethod
    def finish(self, x: Tensor, y: Tensor, gate: Tensor, keep: slice | None) -> Tensor:
        """Gates what the scan gave and adds it to the residual stream x, at the positions in ``keep``."""


class _LastLayer(Layer):
    """A layer and a final norm of its own."""

    def __init__(self, layer: RecurrentLayer, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        out: Tensor = self.norm(self.layer(z, keep))
        return out


class RecurrentBackbone(TableBackbone):
    """A token table, layers, a final norm and a head, without positions. Subclasses give ``fresh_layer`` and call
    ``build`` at the end of their constructor."""

    name: ClassVar[str]

    def build(self, vocab: Vocabulary, generator: torch.Generator, layers: int, width: int, tied: bool) -> None:
        """Draws the weights: table, layers from the first to the last, head."""
        self.vocab_size, self.width = len(vocab), width
        self.token_table = draw_weights(generator, len(vocab), width) if vocab else None
        self.layers = nn.ModuleList(self.fresh_layer(generator) for _ in range(layers))
        self.final_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.head = draw_weights(generator, len(vocab), width) if vocab and not tied else None

    @abstractmethod
    def fresh_layer(self, generator: torch.Generator) -> RecurrentLayer:
        """One more layer of this backbone's kind and size."""

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        if keep is not None:
            first, end, _ = keep.indices(x.shape[1])
            x, keep = x[:, :end], slice(first, end)  # nothing reads what comes after the last wanted position
        return self.with_trunk(x, attend=attend, positions=positions, keep=keep)[1]

    def with_trunk(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        if isinstance(attend, Tensor) or attend != "causal":
            raise RequestError(f"{self.name}: a recurrent model only reads what came before; leave attend='causal'")
        if positions is not None:
            raise RequestError(f"{self.name}: a recurrent model has no positions that could be given; leave them out")
        for each in self.layers[:-1]:
            x = self.run_layer(each, x)
        return x, self.final_norm(self.run_layer(self.layers[-1], x, keep))

    def last_layer(self, generator: torch.Generator) -> Layer:
        return _LastLayer(self.fresh_layer(generator), nn.RMSNorm(self.width, eps=NORM_EPS))

    def layer_list(self) -> list[nn.Module]:
        return list(self.layers)

    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, list[LayerState]]:
        states, last = [], slice(x.shape[1] - 1, x.shape[1])
        for index, each in enumerate(self.layers):
            assert isinstance(each, RecurrentLayer)
            x, state = each.start(x, last if index == len(self.layers) - 1 else None)
            states.append(state)
        return self.final_norm(x)[:, -1], states

    def step(self, x: Tensor, state: list[LayerState]) -> tuple[Tensor, list[LayerState]]:
        states = []
        for each, before in zip(self.layers, state, strict=True):
            assert isinstance(each, RecurrentLayer)
            x, after = each.step(x, before)
            states.append(after)
        return self.final_norm(x), states

    def flops_per_token(self) -> int:
        first = self.layers[0]
        assert isinstance(first, RecurrentLayer)
        in_layer = sum(first.get_parameter(name).numel() for name in first.products)
        return self.vocab_size * self.width + len(self.layers) * in_layer
