"""With the weights of a Hugging Face model, a Transformer gives what that model gives, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support import copy_gpt2, copy_llama, scramble, transformer
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from foresee.backbones.attention import additive
from foresee.backbones.transformer import Transformer
from foresee.core import seeds

ROWS, LENGTH, VOCAB_SIZE = 3, 12, 19


@dataclass
class Pair:
    """A model and a Transformer with its weights."""

    theirs: Any
    ours: Transformer
    atol: float

    def read(self, **options: Any) -> Any:
        return self.theirs(tokens(), use_cache=False, output_hidden_states=True, **options)


def tokens() -> Tensor:
    return torch.randint(VOCAB_SIZE, (ROWS, LENGTH), generator=seeds.torch_stream("agreement"))


def built(model: Any, config: Any, **options: Any) -> Any:
    """A random model without dropout, its attention computed step by step."""
    with torch.random.fork_rng(devices=()):  # transformers draws initial weights from the global stream
        made = model(config(vocab_size=VOCAB_SIZE, attn_implementation="eager", **options))
    scramble(made)
    return made.eval()


def gpt2(dtype: torch.dtype) -> Pair:
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    theirs = built(GPT2LMHeadModel, GPT2Config, n_positions=24, n_embd=32, n_layer=3, n_head=4, **no_dropout)
    ours = transformer(VOCAB_SIZE, layers=3, context=24, mlp="gelu-tanh", positions="learned")
    copy_gpt2(theirs, ours)
    return Pair(theirs.to(dtype), ours.to(dtype), 1e-12 if dtype == torch.float64 else 2e-5)


def llama(dtype: torch.dtype) -> Pair:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    theirs = built(
        LlamaForCausalLM, LlamaConfig, max_position_embeddings=24, rms_norm_eps=1e-6, tie_word_embeddings=False, **sizes
    )
    parts: dict[str, Any] = {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "tied": False}
    ours = transformer(VOCAB_SIZE, layers=3, context=24, hidden=48, **parts)
    copy_llama(theirs, ours)
    # Llama's norms compute in float32 whatever the weights, so float64 agrees no further than that.
    return Pair(theirs.to(dtype), ours.to(dtype), 2e-5)


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module", params=[gpt2, llama])
def pair(request: pytest.FixtureRequest, dtype: torch.dtype) -> Any:
    made: Pair = request.param(dtype)
    return made


def close(pair: Pair, ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=pair.atol)


@torch.no_grad()
def test_every_layer_and_the_logits_agree(pair: Pair) -> None:
    theirs, x = pair.read(), pair.ours.embed(tokens())
    trace = pair.ours.trace(x)
    assert len(trace) == len(theirs.hidden_states) == 4
    for ours, state in zip(trace, theirs.hidden_states, strict=True):
        close(pair, ours, state)
    hidden = pair.ours(x)
    assert torch.equal(hidden, trace[-1])
    close(pair, pair.ours.logits(hidden), theirs.logits)
    assert theirs.logits.std() > 0.2  # large enough that a mistake would show


@torch.no_grad()
def test_a_mask_and_positions_agree(pair: Pair) -> None:
    rng = seeds.torch_stream("agreement", "mask")
    visible = torch.rand(ROWS, LENGTH, LENGTH, generator=rng) < 0.5
    visible |= torch.eye(LENGTH, dtype=torch.bool)
    positions = torch.stack([torch.randperm(24, generator=rng)[:LENGTH] for _ in range(ROWS)])
    mask = additive(visible, pair.theirs.dtype)[:, None]
    theirs = pair.read(attention_mask=mask, position_ids=positions)
    x = pair.ours.embed(tokens())
    hidden = pair.ours(x, attend=visible, positions=positions)
    close(pair, pair.ours.logits(hidden), theirs.logits)
    assert (theirs.logits - pair.read().logits).abs().max() > 0.1


@torch.no_grad()
def test_full_attention_agrees(pair: Pair) -> None:
    mask = torch.zeros(ROWS, 1, LENGTH, LENGTH, dtype=pair.theirs.dtype)
    theirs = pair.read(attention_mask=mask, position_ids=torch.arange(LENGTH)[None])
    close(pair, pair.ours.logits(pair.ours(pair.ours.embed(tokens()), attend="full")), theirs.logits)


def test_gradients_agree(pair: Pair) -> None:
    """Backward through the attention of our own: the gradient of one loss at the embeddings."""

    def gradient(run: Any) -> Tensor:
        x = pair.ours.embed(tokens()).detach().requires_grad_()
        return torch.autograd.grad(run(x).log_softmax(-1)[..., 0].sum(), x)[0]

    ours = gradient(lambda x: pair.ours.logits(pair.ours(x)))
    theirs = gradient(lambda x: pair.theirs(inputs_embeds=x, use_cache=False).logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=pair.atol * theirs.abs().max().item() * 10)
