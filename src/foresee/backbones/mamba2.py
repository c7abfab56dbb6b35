"""Mamba-2 from scratch (Dao & Gu 2024, "Transformers are SSMs"): a stack of state space layers and nothing else.

Pre-norm layers (``mamba2_layer.py``), a final norm, and an output head tied to the token table, which is drawn from
N(0, 0.02) as in the authors' code. All norms are root-mean-square norms. There are no positions, and nothing but what
came before is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from foresee.backbones.base import backbones
from foresee.backbones.mamba2_layer import Mamba2Layer, Sizes
from foresee.backbones.measure import measure
from foresee.backbones.recurrent import RecurrentBackbone
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Mamba2ForCausalLM


@backbones.register("mamba2")
class Mamba2(RecurrentBackbone):
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
        self._options: dict[str, Any] = {**options, "tied": tied}
        self.build(vocab, generator, layers, width, tied)
        self.has = measure(self)

    def fresh_layer(self, generator: torch.Generator) -> Mamba2Layer:
        return Mamba2Layer(self.sizes, self._options["layers"], generator)

    def twin(self, generator: torch.Generator) -> Mamba2:
        return Mamba2(Vocabulary(()), generator, **self._options)

    def flops_per_token(self) -> int:
        projections = (
            parameter.numel() for name, parameter in self.layers.named_parameters() if name.endswith("_proj")
        )
        return self.vocab_size * self.width + sum(projections)

    def counterpart(self) -> Mamba2ForCausalLM:
        from foresee.backbones.counterparts.mamba2 import counterpart

        return counterpart(self)


backbones.preset("mamba2-nano", "mamba2:layers=3,width=128")
