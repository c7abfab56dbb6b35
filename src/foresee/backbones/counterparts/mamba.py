"""The models of the transformers library that compute what a ``Mamba`` or a ``Mamba2`` computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM, PreTrainedModel

from foresee.backbones.counterparts import build_filled
from foresee.backbones.mamba.stack import NORM_EPS, RecurrentBackbone
from foresee.core.errors import RequestError

if TYPE_CHECKING:
    from foresee.backbones.mamba import Mamba, Mamba2

IN_BOTH = {
    "norm.weight": "norm.weight",
    "in_proj": "mixer.in_proj.weight",
    "convolution_weight": "mixer.conv1d.weight",
    "convolution_bias": "mixer.conv1d.bias",
    "A_log": "mixer.A_log",
    "D": "mixer.D",
    "out_proj": "mixer.out_proj.weight",
}
"""Our name of a weight in a layer, and the library's."""

IN_LAYER = {
    "mamba": IN_BOTH
    | {"x_proj": "mixer.x_proj.weight", "dt_proj": "mixer.dt_proj.weight", "dt_bias": "mixer.dt_proj.bias"},
    "mamba2": IN_BOTH | {"dt_bias": "mixer.dt_bias", "gated_norm_weight": "mixer.norm.weight"},
}


def mamba_counterpart(net: Mamba) -> PreTrainedModel:
    """The library's model with the weights of ``net``, on the CPU in float32, in evaluation mode. Raises
    ``RequestError`` for a twin, which has no token table."""
    sizes = net.sizes
    config = MambaConfig(
        state_size=sizes["state"], conv_kernel=sizes["convolution"], expand=sizes["expansion"],
        time_step_rank=sizes["time_step_rank"], **_shared(net),
    )  # fmt: skip
    return _filled(MambaForCausalLM, config, net)


def mamba2_counterpart(net: Mamba2) -> PreTrainedModel:
    """As ``mamba_counterpart``."""
    sizes = net.sizes
    config = Mamba2Config(
        num_heads=sizes["expansion"] * net.width // sizes["head_width"], head_dim=sizes["head_width"],
        state_size=sizes["state"], n_groups=sizes["groups"], conv_kernel=sizes["convolution"],
        expand=sizes["expansion"], layer_norm_epsilon=NORM_EPS, **_shared(net),
    )  # fmt: skip
    return _filled(Mamba2ForCausalLM, config, net)


def _shared(net: RecurrentBackbone) -> dict[str, Any]:
    if net.token_table is None:
        raise RequestError(f"{net.name}: a twin has no token table and so no counterpart; take that of its original")
    return {
        "vocab_size": net.vocab_size, "hidden_size": net.width, "num_hidden_layers": len(net.layers),
        "tie_word_embeddings": net.head is None, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip


def _filled(cls: type[PreTrainedModel], config: Any, net: RecurrentBackbone) -> PreTrainedModel:
    weights: dict[str, Tensor | None] = {
        "backbone.embeddings.weight": net.token_table, "backbone.norm_f.weight": net.final_norm.weight,
        "lm_head.weight": net.token_table if net.head is None else net.head,
    }  # fmt: skip
    for index, layer in enumerate(net.layers):
        for ours, theirs in IN_LAYER[net.name].items():
            value = layer.get_parameter(ours)
            # The library keeps the filter of every channel as [channels, 1, taps].
            weights[f"backbone.layers.{index}.{theirs}"] = value[:, None] if ours == "convolution_weight" else value
    return build_filled(cls, config, weights)
