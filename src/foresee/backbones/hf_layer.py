"""A fresh layer of a checkpoint's kind with a final norm, to stand beside its last one on the states below it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foresee.backbones.base import Layer
from foresee.backbones.hf_loading import first_line, fresh_model, without_dropout
from foresee.backbones.hf_reading import REFUSALS, Reader
from foresee.core.errors import ForeseeError, RequestError

PER_LAYER = ("layer_types", "layers_block_type", "block_types", "mlp_layer_types")
"""What configurations call their list of the layers' kinds."""


class HuggingFaceLayer(Layer):
    """A model of one layer of the checkpoint's architecture, weights drawn as the architecture draws them.

    It reads trunk states, which hold the positions already, so tables of positions are zero and stay so; rotary
    embeddings act within attention and are left as they are.
    """

    def __init__(self, config: Any, attention: str | None, generator: torch.Generator, path: str, whose: str) -> None:
        """Raises ``RequestError`` where the architecture cannot be built with one layer, or where that layer reads
        ahead."""
        super().__init__()
        try:
            model = fresh_model(_of_one_layer(config), attention, generator, path)
            self.body: Any = model.base_model
            self.body.set_input_embeddings(None)
            for module in self.body.modules():
                if isinstance(module, nn.Embedding):
                    nn.init.zeros_(module.weight)
                    module.weight.requires_grad_(False)
            self._reader = Reader(self.body, whose)
            self._check(whose)
        except (ForeseeError, *REFUSALS) as error:
            raise RequestError(f"hf: {whose} has no single layer to build a head from: {first_line(error)}") from error

    def _check(self, whose: str) -> None:
        width = self.body.config.hidden_size
        x = torch.linspace(-1, 1, 4 * width).view(1, 4, width)
        with torch.no_grad():
            read, cut = self._reader(x), self._reader(x[:, :3])
        if not torch.isfinite(read).all() or not torch.allclose(read[:, :3], cut, atol=1e-4):
            raise RequestError(f"one layer of {whose} is not causal alone")
        if len(self._reader.layers()) != 1:
            raise RequestError(f"{whose} cannot be cut to one layer")

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D] (or [B, K, D])."""
        states = self._reader(z)
        return states if keep is None else states[:, keep]


def _of_one_layer(config: Any) -> Any:
    """A copy with one layer, of the kind of the last one. Raises ``RequestError`` where kinds follow from a rule that
    a model of one layer would apply otherwise."""
    one = without_dropout(config)
    for name in PER_LAYER:
        kinds = getattr(one, name, None)
        if not isinstance(kinds, list) or not kinds:
            continue
        if name in vars(one):
            setattr(one, name, kinds[-1:])
        elif len(set(kinds)) > 1:
            raise RequestError(f"its layers are of several kinds ({', '.join(sorted(map(str, set(kinds))))})")
    one.num_hidden_layers = 1
    return one
