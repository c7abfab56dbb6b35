"""The ``Mamba2ForCausalLM`` of the transformers library that computes what a ``Mamba2`` computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from transformers import Mamba2Config, Mamba2ForCausalLM

from foresee.backbones.counterparts import recurrent
from foresee.backbones.counterparts.recurrent import filled, refuse_twin
from foresee.backbones.recurrent import NORM_EPS

if TYPE_CHECKING:
    from foresee.backbones.mamba2 import Mamba2

IN_A_LAYER = {
    "norm.weight": "norm.weight",
    "in_proj": "mixer.in_proj.weight",
    "convolution_weight": "mixer.conv1d.weight",
    "convolution_bias": "mixer.conv1d.bias",
    "A_log": "mixer.A_log",
    "dt_bias": "mixer.dt_bias",
    "D": "mixer.D",
    "gated_norm_weight": "mixer.norm.weight",
    "out_proj": "mixer.out_proj.weight",
}
"""Our name of a weight in a layer, and the library's."""


def counterpart(net: Mamba2) -> Mamba2ForCausalLM:
    """The library's model with the weights of ``net``, on the CPU in float32, in evaluation mode.

    Raises ``RequestError`` for a twin, which has no token table.
    """
    refuse_twin(net, "mamba2")
    sizes = net.sizes
    config = Mamba2Config(
        vocab_size=net.vocab_size,
        hidden_size=sizes.width,
        num_hidden_layers=len(net.layers),
        num_heads=sizes.heads,
        head_dim=sizes.head_width,
        state_size=sizes.state,
        n_groups=sizes.groups,
        conv_kernel=sizes.convolution,
        expand=sizes.expansion,
        layer_norm_epsilon=NORM_EPS,
        tie_word_embeddings=net.head is None,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return filled(Mamba2ForCausalLM, config, net, IN_A_LAYER)


def matching_weights(net: Mamba2, model: Mamba2ForCausalLM) -> list[tuple[Tensor, Tensor]]:
    """Every weight of ``net`` and its equal in a library model of the same sizes, in one shape, to copy either way."""
    return recurrent.matching_weights(net, model, IN_A_LAYER)
