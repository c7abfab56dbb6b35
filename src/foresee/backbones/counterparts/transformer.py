"""The GPT-2, GPT-NeoX or Llama of the transformers library that computes what a ``Transformer`` computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from foresee.backbones.block import NORM_EPS, ROTARY_BASE, Block
from foresee.backbones.counterparts import build_filled
from foresee.core.errors import RequestError

if TYPE_CHECKING:
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
