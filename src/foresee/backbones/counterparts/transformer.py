"""The GPT-2 or Llama of the transformers library that computes what a ``Transformer`` computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from foresee.backbones.block import NORM_EPS, ROTARY_BASE, Block
from foresee.core.errors import RequestError
from foresee.core.seeds import global_stream_from, torch_stream

if TYPE_CHECKING:
    from foresee.backbones.transformer import Transformer

GPT2_PARTS = {"positions": ("learned",), "norm": ("layer",), "mlp": ("gelu", "gelu-tanh"), "bias": (True,)}
LLAMA_PARTS = {"positions": ("rotary",), "norm": ("rms",), "mlp": ("swiglu",), "bias": (False,)}


def counterpart(net: Transformer) -> PreTrainedModel:
    """The library's model with the weights of ``net``, on the CPU in float32, in evaluation mode.

    Raises ``RequestError`` where the parts are neither all GPT-2's nor all Llama's, and for a twin.
    """
    if net.token_table is None:
        raise RequestError("transformer: a twin has no token table and so no counterpart; take that of its original")
    for parts, build, matching in ((GPT2_PARTS, _gpt2, _gpt2_weights), (LLAMA_PARTS, _llama, _llama_weights)):
        if all(getattr(net, name) in allowed for name, allowed in parts.items()):
            with global_stream_from(torch_stream("counterpart")):
                model = build(net)
            with torch.no_grad():
                for ours, theirs in matching(net, model):
                    theirs.copy_(ours)
            model.train(False)
            return model
    raise RequestError(
        "transformer: only GPT-2's parts together (positions=learned, norm=layer, mlp=gelu or gelu-tanh, bias=true) or "
        "Llama's (positions=rotary, norm=rms, mlp=swiglu, bias=false) have a counterpart in the transformers library"
    )


def _gpt2(net: Transformer) -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=net.vocab_size, n_positions=net.context, n_embd=net.width, n_layer=net.layers,
            n_head=net.heads, n_inner=net.hidden, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            activation_function="gelu" if net.mlp == "gelu" else "gelu_new", layer_norm_epsilon=NORM_EPS["layer"],
            tie_word_embeddings=net.head is None, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip


def _gpt2_weights(net: Transformer, model: Any) -> list[tuple[Tensor, Tensor]]:
    """Ours and theirs, which keep linear weights as [inputs, outputs]."""
    inner = model.transformer
    pairs: list[Any] = [(net.token_table, inner.wte.weight), (net.position_table, inner.wpe.weight)]
    pairs += _norm_weights(net.final_norm, inner.ln_f)
    for block, theirs in zip(net.blocks, inner.h, strict=True):
        assert isinstance(block, Block)
        pairs += _norm_weights(block.attention_norm, theirs.ln_1) + _norm_weights(block.mlp_norm, theirs.ln_2)
        for ours, linear in (
            (block.attention_in, theirs.attn.c_attn),
            (block.attention_out, theirs.attn.c_proj),
            (block.mlp_in, theirs.mlp.c_fc),
            (block.mlp_out, theirs.mlp.c_proj),
        ):
            pairs += [(ours.weight.T, linear.weight), (ours.bias, linear.bias)]
    return _with_head(net, model, pairs)


def _llama(net: Transformer) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=net.vocab_size, hidden_size=net.width, intermediate_size=net.hidden,
            num_hidden_layers=net.layers, num_attention_heads=net.heads, max_position_embeddings=net.context,
            rms_norm_eps=NORM_EPS["rms"], rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
            tie_word_embeddings=net.head is None, bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip


def _llama_weights(net: Transformer, model: Any) -> list[tuple[Tensor, Tensor]]:
    """Ours and theirs, which keep queries, keys, values, gate and gated apart."""
    pairs: list[Any] = [(net.token_table, model.model.embed_tokens.weight)]
    pairs += _norm_weights(net.final_norm, model.model.norm)
    for block, theirs in zip(net.blocks, model.model.layers, strict=True):
        assert isinstance(block, Block)
        pairs += _norm_weights(block.attention_norm, theirs.input_layernorm)
        pairs += _norm_weights(block.mlp_norm, theirs.post_attention_layernorm)
        attention, mlp = theirs.self_attn, theirs.mlp
        read = block.attention_in.weight.chunk(3)
        pairs += zip(read, (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight), strict=True)
        pairs += zip(block.mlp_in.weight.chunk(2), (mlp.gate_proj.weight, mlp.up_proj.weight), strict=True)
        pairs += [
            (block.attention_out.weight, attention.o_proj.weight),
            (block.mlp_out.weight, mlp.down_proj.weight),
        ]
    return _with_head(net, model, pairs)


def _norm_weights(ours: nn.Module, theirs: nn.Module) -> list[Any]:
    return list(zip(ours.parameters(), theirs.parameters(), strict=True))


def _with_head(net: Transformer, model: Any, pairs: list[Any]) -> list[tuple[Tensor, Tensor]]:
    return [*pairs, *([] if net.head is None else [(net.head, model.lm_head.weight)])]
