"""The models of the transformers library that compute what a backbone from scratch computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from foresee.backbones.block import NORM_EPS, ROTARY_BASE, Block
from foresee.backbones.counterparts import build_filled
from foresee.backbones.mamba import stack
from foresee.core.errors import RequestError

if TYPE_CHECKING:
    from foresee.backbones.mamba import Mamba, Mamba2
    from foresee.backbones.transformer import Transformer

GPT2_PARTS = {"positions": ("learned",), "norm": ("layer",), "mlp": ("gelu", "gelu-tanh"), "bias": (True,)}
NEOX_PARTS = GPT2_PARTS | {"positions": ("rotary",)}
LLAMA_PARTS = {"positions": ("rotary",), "norm": ("rms",), "mlp": ("swiglu",), "bias": (False,)}


def counterpart(net: Transformer) -> PreTrainedModel:
    """The library's model with the weights of ``net``, on the CPU in float32, in evaluation mode. Raises
    ``RequestError`` where the parts are not all of one family, and for a twin."""
    if net.token_table is None:
        raise RequestError("transformer: a twin has no token table and so no counterpart; take that of its original")
    for parts, build in ((GPT2_PARTS, _gpt2), (NEOX_PARTS, _neox), (LLAMA_PARTS, _llama)):
        if all(getattr(net, name) in allowed for name, allowed in parts.items()):
            return build(net, net.token_table, net.token_table if net.head is None else net.head)
    raise RequestError(
        "transformer: only GPT-2's parts together (positions=learned, norm=layer, mlp=gelu or gelu-tanh, bias=true), "
        "GPT-NeoX's (the same with positions=rotary) or Llama's (positions=rotary, norm=rms, mlp=swiglu, bias=false) "
        "have a counterpart in the transformers library"
    )


def _gpt2(net: Transformer, table: Tensor, head: Tensor) -> PreTrainedModel:
    """Which keeps linear weights as [inputs, outputs]."""
    config = GPT2Config(
        vocab_size=net.vocab_size, n_positions=net.context, n_embd=net.width, n_layer=net.layers, n_head=net.heads,
        n_inner=net.hidden, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        activation_function="gelu" if net.mlp == "gelu" else "gelu_new", layer_norm_epsilon=NORM_EPS["layer"],
        tie_word_embeddings=net.head is None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    weights = {"wte.weight": table, "wpe.weight": net.position_table, **_named("ln_f", net.final_norm)}
    for index, block in enumerate(net.blocks):
        assert isinstance(block, Block)
        weights |= _named(f"h.{index}.ln_1", block.attention_norm) | _named(f"h.{index}.ln_2", block.mlp_norm)
        linears = {
            "attn.c_attn": block.attention_in, "attn.c_proj": block.attention_out,
            "mlp.c_fc": block.mlp_in, "mlp.c_proj": block.mlp_out,
        }  # fmt: skip
        for name, linear in linears.items():
            weights |= {f"h.{index}.{name}.weight": linear.weight.T, f"h.{index}.{name}.bias": linear.bias}
    weights = {f"transformer.{name}": value for name, value in weights.items()}
    return build_filled(GPT2LMHeadModel, config, weights | {"lm_head.weight": head})


def _neox(net: Transformer, table: Tensor, head: Tensor) -> PreTrainedModel:
    """Which keeps queries, keys and values together head by head."""
    config = GPTNeoXConfig(
        vocab_size=net.vocab_size, hidden_size=net.width, num_hidden_layers=net.layers, num_attention_heads=net.heads,
        intermediate_size=net.hidden, hidden_act="gelu" if net.mlp == "gelu" else "gelu_new",
        max_position_embeddings=net.context, layer_norm_eps=NORM_EPS["layer"], use_parallel_residual=False,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE, "partial_rotary_factor": 1.0},
        tie_word_embeddings=net.head is None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    weights = {"embed_in.weight": table, **_named("final_layer_norm", net.final_norm)}
    for index, block in enumerate(net.blocks):
        assert isinstance(block, Block)
        place = f"layers.{index}"
        weights |= _named(f"{place}.input_layernorm", block.attention_norm)
        weights |= _named(f"{place}.post_attention_layernorm", block.mlp_norm)
        for name, value in block.attention_in.named_parameters():  # [3 x heads x size, ...] to [heads x 3 x size, ...]
            by_head = value.view(3, net.heads, -1, *value.shape[1:]).transpose(0, 1)
            weights[f"{place}.attention.query_key_value.{name}"] = by_head.reshape(value.shape)
        weights |= _named(f"{place}.attention.dense", block.attention_out)
        weights |= _named(f"{place}.mlp.dense_h_to_4h", block.mlp_in)
        weights |= _named(f"{place}.mlp.dense_4h_to_h", block.mlp_out)
    weights = {f"gpt_neox.{name}": value for name, value in weights.items()}
    return build_filled(GPTNeoXForCausalLM, config, weights | {"lm_head.weight": head})


def _llama(net: Transformer, table: Tensor, head: Tensor) -> PreTrainedModel:
    """Which keeps queries, keys, values, gate and gated apart."""
    config = LlamaConfig(
        vocab_size=net.vocab_size, hidden_size=net.width, intermediate_size=net.hidden, num_hidden_layers=net.layers,
        num_attention_heads=net.heads, max_position_embeddings=net.context, rms_norm_eps=NORM_EPS["rms"],
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE}, tie_word_embeddings=net.head is None,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    weights = {"embed_tokens.weight": table, **_named("norm", net.final_norm)}
    for index, block in enumerate(net.blocks):
        assert isinstance(block, Block)
        linears = dict(zip(("q", "k", "v"), block.attention_in.weight.chunk(3), strict=True))
        weights |= {f"layers.{index}.self_attn.{name}_proj.weight": value for name, value in linears.items()}
        gate, up = block.mlp_in.weight.chunk(2)
        weights |= {
            f"layers.{index}.self_attn.o_proj.weight": block.attention_out.weight,
            f"layers.{index}.mlp.gate_proj.weight": gate,
            f"layers.{index}.mlp.up_proj.weight": up,
            f"layers.{index}.mlp.down_proj.weight": block.mlp_out.weight,
            **_named(f"layers.{index}.input_layernorm", block.attention_norm),
            **_named(f"layers.{index}.post_attention_layernorm", block.mlp_norm),
        }
    weights = {f"model.{name}": value for name, value in weights.items()}
    return build_filled(LlamaForCausalLM, config, weights | {"lm_head.weight": head})


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor | None]:
    return {f"{prefix}.{name}": value for name, value in module.named_parameters()}


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
        expand=sizes["expansion"], layer_norm_epsilon=stack.NORM_EPS, **_shared(net),
    )  # fmt: skip
    return _filled(Mamba2ForCausalLM, config, net)


def _shared(net: stack.RecurrentBackbone) -> dict[str, Any]:
    if net.token_table is None:
        raise RequestError(f"{net.name}: a twin has no token table and so no counterpart; take that of its original")
    return {
        "vocab_size": net.vocab_size, "hidden_size": net.width, "num_hidden_layers": len(net.layers),
        "tie_word_embeddings": net.head is None, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip


def _filled(cls: type[PreTrainedModel], config: Any, net: stack.RecurrentBackbone) -> PreTrainedModel:
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
