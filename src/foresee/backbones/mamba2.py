"""Mamba-2 from scratch (Dao & Gu 2024, "Transformers are SSMs"): a stack of state space layers and nothing else.

Pre-norm layers (``mamba2_layer.py``), a final norm, and an output head tied to the token table, which is drawn from
N(0, 0.02) as in the authors' code. All norms are root-mean-square norms. There are no positions, and nothing but what
came before is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.base import Attend, Backbone, backbones
from foresee.backbones.mamba2_layer import NORM_EPS, Layer, LayerState, Sizes
from foresee.backbones.measure import measure
from foresee.backbones.recompute import layer
from foresee.errors import RequestError
from foresee.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Mamba2ForCausalLM

EMBEDDING_STD = 0.02


@backbones.register("mamba2")
class Mamba2(Backbone):
    """Options: ``layers``, ``width``; ``state``, the numbers that a head keeps for each of its channels (the authors
    take 64 or 128; their layer's default is 128); ``head_width``, channels of a head; ``groups``, sets of heads that
    share B and C; ``convolution``, taps; ``expansion``, channels of all heads together as a multiple of ``width``;
    ``tied``, one table for embedding and head."""

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
        for name, value in options.items():
            if value < 1:
                raise RequestError(f"mamba2: {name}={value} must be at least 1")
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
        self._options = {**options, "tied": tied}
        self.vocab_size, self.width = len(vocab), width
        self.token_table = self._table(generator) if vocab else None
        self.layers = nn.ModuleList(Layer(self.sizes, layers, generator) for _ in range(layers))
        self.final_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.head = self._table(generator) if vocab and not tied else None
        self.has = measure(self)

    def _table(self, generator: torch.Generator) -> nn.Parameter:
        shape = self.vocab_size, self.width
        return nn.Parameter(torch.empty(*shape).normal_(0.0, EMBEDDING_STD, generator=generator))

    def embed(self, tokens: Tensor) -> Tensor:
        if self.token_table is None:
            raise RuntimeError("this backbone is a twin: it has no token table; embed with the one it was made from")
        return functional.embedding(tokens, self.token_table)

    def logits(self, hidden: Tensor) -> Tensor:
        table = self.token_table if self.head is None else self.head
        if table is None:
            raise RuntimeError("this backbone is a twin: it has no output head; use the one it was made from")
        return functional.linear(hidden, table)

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        if isinstance(attend, Tensor) or attend != "causal":
            raise RequestError("mamba2: a recurrent model only reads what came before; leave attend='causal'")
        if positions is not None:
            raise RequestError("mamba2: a recurrent model has no positions that could be given; leave them out")
        for index, each in enumerate(self.layers):
            x = layer(self.recompute, each, x, keep if index == len(self.layers) - 1 else None)
        out: Tensor = self.final_norm(x)
        return out

    def trace(self, x: Tensor) -> Tensor:
        states = [x]
        for each in self.layers:
            states.append(each(states[-1]))
        return torch.stack([*states[:-1], self.final_norm(states[-1])])

    # Decoding -------------------------------------------------------------------------------------------------------

    def start(self, x: Tensor, room: int = 16) -> tuple[Tensor, list[LayerState]]:
        states: list[LayerState] = []
        last = slice(x.shape[1] - 1, x.shape[1])
        for index, each in enumerate(self.layers):
            assert isinstance(each, Layer)
            x, state = each.start(x, last if index == len(self.layers) - 1 else None)
            states.append(state)
        return self.final_norm(x)[:, -1], states

    def step(self, x: Tensor, state: list[LayerState]) -> tuple[Tensor, list[LayerState]]:
        states: list[LayerState] = []
        for each, before in zip(self.layers, state, strict=True):
            assert isinstance(each, Layer)
            x, after = each.step(x, before)
            states.append(after)
        return self.final_norm(x), states

    def fork(self, state: list[LayerState], n: int) -> list[LayerState]:
        return [LayerState(each.window.repeat_interleave(n, 0), each.heads.repeat_interleave(n, 0)) for each in state]

    # Shape ----------------------------------------------------------------------------------------------------------

    def twin(self, generator: torch.Generator) -> Mamba2:
        return Mamba2(Vocabulary(()), generator, **self._options)  # type: ignore[arg-type]  # as it was built

    def flops_per_token(self) -> int:
        projections = (
            parameter.numel() for name, parameter in self.layers.named_parameters() if name.endswith("_proj")
        )
        return self.vocab_size * self.width + sum(projections)

    def counterpart(self) -> Mamba2ForCausalLM:
        from foresee.backbones.counterparts.mamba2 import counterpart

        return counterpart(self)


backbones.preset("mamba2-nano", "mamba2:layers=3,width=128")
