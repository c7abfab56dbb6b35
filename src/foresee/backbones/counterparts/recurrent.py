"""What the counterparts of recurrent backbones share: a library model filled with a backbone's weights by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foresee.core.errors import RequestError

if TYPE_CHECKING:
    from foresee.backbones.recurrent import RecurrentBackbone

Model = TypeVar("Model", bound=PreTrainedModel)


def refuse_twin(net: RecurrentBackbone, name: str) -> None:
    """Raises ``RequestError`` for a twin, which has no token table."""
    if net.token_table is None:
        raise RequestError(f"{name}: a twin has no token table and so no counterpart; take that of its original")


def filled(cls: type[Model], config: Any, net: RecurrentBackbone, in_a_layer: Mapping[str, str]) -> Model:
    """The library's model of this configuration with the weights of ``net``, on the CPU in float32, in evaluation
    mode."""
    with torch.device("meta"):  # no memory and no random numbers for weights that are all given below
        made = cls(config)
    made.to_empty(device="cpu")
    made.tie_weights()
    with torch.no_grad():
        for ours, theirs in matching_weights(net, made, in_a_layer):
            theirs.copy_(ours)
    made.train(False)
    return made


def matching_weights(
    net: RecurrentBackbone, model: PreTrainedModel, in_a_layer: Mapping[str, str]
) -> list[tuple[Tensor, Tensor]]:
    """Every weight of ``net`` and its equal in a library model of the same sizes, in one shape, to copy either way;
    ``in_a_layer`` gives the library's name of each weight in a layer."""
    named = {
        f"layers.{index}.{ours}": f"backbone.layers.{index}.{theirs}"
        for index in range(len(net.layers))
        for ours, theirs in in_a_layer.items()
    }
    named |= {"token_table": "backbone.embeddings.weight", "final_norm.weight": "backbone.norm_f.weight"}
    if net.head is not None:
        named["head"] = "lm_head.weight"
    pairs = [(net.get_parameter(ours), model.get_parameter(theirs)) for ours, theirs in named.items()]
    return [(ours, theirs.view(ours.shape)) for ours, theirs in pairs]
