"""The ``MambaForCausalLM`` of the transformers library that computes what a ``Mamba`` computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM

from foresee.backbones.counterparts import recurrent
from foresee.backbones.counterparts.recurrent import filled, refuse_twin

if TYPE_CHECKING:
    from foresee.backbones.mamba import Mamba

IN_A_LAYER = {
    "norm.weight": "norm.weight",
    "in_proj": "mixer.in_proj.weight",
    "convolution_weight": "mixer.conv1d.weight",
    "convolution_bias": "mixer.conv1d.bias",
    "x_proj": "mixer.x_proj.weight",
    "dt_proj": "mixer.dt_proj.weight",
    "dt_bias": "mixer.dt_proj.bias",
    "A_log": "mixer.A_log",
    "D": "mixer.D",
    "out_proj": "mixer.out_proj.weight",
}
"""Our name of a weight in a layer, and the library's."""


def counterpart(net: Mamba) -> MambaForCausalLM:
    """The library's model with the weights of ``net``, on the CPU in float32, in evaluation mode.

    Raises ``RequestError`` for a twin, which has no token table.
    """
    refuse_twin(net, "mamba")
    config = MambaConfig(
        vocab_size=net.vocab_size,
        hidden_size=net.width,
        num_hidden_layers=len(net.layers),
        state_size=net.options["state"],
        conv_kernel=net.options["convolution"],
        expand=net.options["expansion"],
        time_step_rank=net.options["time_step_rank"],
        tie_word_embeddings=net.head is None,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return filled(MambaForCausalLM, config, net, IN_A_LAYER)


def matching_weights(net: Mamba, model: MambaForCausalLM) -> list[tuple[Tensor, Tensor]]:
    """Every weight of ``net`` and its equal in a library model of the same sizes, in one shape, to copy either way."""
    return recurrent.matching_weights(net, model, IN_A_LAYER)
