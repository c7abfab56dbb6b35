"""Every backbone from scratch agrees with the model of the Hugging Face library that has its weights.

The library's models compute on their own: agreement of logits, of every layer, of gradients and of decoding checks both
our arithmetic and the copying of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support import mamba, mamba2, scramble, transformer
from torch import Tensor
from transformers import AutoModelForCausalLM

from foresee.backbones import Backbone
from foresee.backbones.attention import additive
from foresee.core import seeds
from foresee.core.errors import RequestError

ROWS, VOCAB_SIZE, LAYERS, CONTEXT = 3, 19, 3, 160
LLAMA: dict[str, Any] = {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False}
TRANSFORMER: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "layers": LAYERS, "context": CONTEXT}
RECURRENT: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "layers": LAYERS, "state": 6}
KINDS: dict[str, tuple[str, Callable[[], Backbone]]] = {
    "gpt2": ("GPT2LMHeadModel", partial(transformer, **TRANSFORMER)),
    "gpt2, tanh": ("GPT2LMHeadModel", partial(transformer, **TRANSFORMER, mlp="gelu-tanh", hidden=40)),
    "gpt2, untied": ("GPT2LMHeadModel", partial(transformer, **TRANSFORMER, tied=False)),
    "neox": ("GPTNeoXForCausalLM", partial(transformer, **TRANSFORMER, positions="rotary")),
    "neox, tanh, untied": (
        "GPTNeoXForCausalLM", partial(transformer, **TRANSFORMER, positions="rotary", mlp="gelu-tanh", tied=False),
    ),
    "llama": ("LlamaForCausalLM", partial(transformer, **TRANSFORMER, **LLAMA, tied=False)),
    "llama, tied": ("LlamaForCausalLM", partial(transformer, **TRANSFORMER, **LLAMA, hidden=48)),
    "mamba": ("MambaForCausalLM", partial(mamba, **RECURRENT)),
    "mamba, untied": ("MambaForCausalLM", partial(mamba, **RECURRENT, tied=False, time_step_rank=5)),
    "mamba, wide, short": ("MambaForCausalLM", partial(mamba, **RECURRENT, expansion=3, convolution=2)),
    "mamba2": ("Mamba2ForCausalLM", partial(mamba2, **RECURRENT)),
    "mamba2, groups, untied": ("Mamba2ForCausalLM", partial(mamba2, **RECURRENT, groups=2, tied=False)),
    "mamba2, wide, short": (
        "Mamba2ForCausalLM", partial(mamba2, **RECURRENT, head_width=12, expansion=3, convolution=2),
    ),
}  # fmt: skip
TRANSFORMERS = [kind for kind in KINDS if "mamba" not in kind]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def net(kind: str) -> Any:
    made = KINDS[kind][1]()
    scramble(made)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if name.endswith("A_log"):
                value.sub_(2)  # slower decays, so that much is remembered from far back
    return made


def tokens(length: int) -> Tensor:
    return torch.randint(VOCAB_SIZE, (ROWS, length), generator=seeds.torch_stream("agreement", length))


def logits(net: Backbone, length: int, **options: Any) -> Tensor:
    return net.logits(net(net.embed(tokens(length)), **options))


def close(kind: str, ours: Tensor, theirs: Tensor) -> None:
    """As float32 allows after sums over 150 positions and three layers; Mamba-2 takes differences of running totals,
    of order one."""
    atol = 5e-4 if "mamba2" in kind else 2e-5 * max(1.0, theirs.abs().max().item())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=atol)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 3, 31, 150])
def test_every_layer_and_the_logits_agree(kind: str, net: Any, length: int) -> None:
    theirs = net.counterpart()
    assert type(theirs).__name__ == KINDS[kind][0]
    assert (theirs.dtype, theirs.training) == (torch.float32, False)
    layers = theirs.transformer.h if "gpt2" in kind else getattr(theirs, "backbone", theirs.base_model).layers
    inputs: list[Tensor] = []
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    read = theirs(tokens(length), use_cache=False, output_hidden_states=True)
    trace = net.trace(net.embed(tokens(length)))
    assert len(trace) == len(inputs) + 1 == LAYERS + 1
    for ours, other in zip(trace, [*inputs, read.hidden_states[-1]], strict=True):
        close(kind, ours, other)
    close(kind, logits(net, length), read.logits)
    assert read.logits.std() > 0.2  # large enough that a mistake would show


@torch.no_grad()
def test_the_counterpart_survives_a_folder(kind: str, net: Any, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    net.counterpart().save_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=()):  # the library may draw what it then overwrites
        loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    close(kind, logits(net, 31), loaded(tokens(31), use_cache=False).logits)


@torch.no_grad()
def test_decoding_agrees(kind: str, net: Any) -> None:
    theirs, read = net.counterpart(), tokens(9)
    name = "cache_params" if "mamba" in kind else "past_key_values"
    x = net.embed(read)
    hidden, state = net.start(x[:, :4])
    out = theirs(read[:, :4], use_cache=True)
    close(kind, net.logits(hidden), out.logits[:, -1])
    for place in range(4, 9):
        hidden, state = net.step(x[:, place], state)
        out = theirs(read[:, place : place + 1], use_cache=True, **{name: out[name]})
        close(kind, net.logits(hidden), out.logits[:, -1])


def test_gradients_agree(net: Any) -> None:
    """Of one loss, at every weight, backwards through attention and scans of our own."""
    theirs = net.counterpart().train()

    def loss(scores: Tensor) -> Tensor:
        return scores.log_softmax(-1)[..., 0].mean()

    torch.autograd.backward(loss(logits(net, 31)))
    torch.autograd.backward(loss(theirs(tokens(31), use_cache=False).logits))
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(value.grad)
    ours = dict(net.counterpart().named_parameters())  # gradients in place of weights, each where the library has it
    for name, value in theirs.named_parameters():
        assert value.grad is not None
        atol = 1e-4 * value.grad.abs().max().item()
        torch.testing.assert_close(ours[name].detach(), value.grad, rtol=1e-3, atol=atol, msg=name)


@torch.no_grad()
@pytest.mark.parametrize("kind", TRANSFORMERS, indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_masks_and_positions_agree(kind: str, net: Any, dtype: torch.dtype) -> None:
    length, rng = 12, seeds.torch_stream("agreement", "mask")
    theirs = net.counterpart().to(dtype)
    net = net.to(dtype)
    theirs.set_attn_implementation("eager")
    visible = torch.rand(ROWS, length, length, generator=rng) < 0.5
    visible |= torch.eye(length, dtype=torch.bool)
    positions = torch.stack([torch.randperm(24, generator=rng)[:length] for _ in range(ROWS)])
    # Llama's norms compute in float32 whatever the weights, so float64 agrees no further than that.
    atol = 1e-12 if dtype == torch.float64 and "gpt2" in kind else 2e-5
    for mask, places in ((visible, positions), (torch.ones_like(visible), torch.arange(length)[None])):
        read = theirs(
            tokens(length), attention_mask=additive(mask, dtype)[:, None], position_ids=places, use_cache=False
        )
        ours = logits(net, length, attend=mask, positions=places)
        torch.testing.assert_close(ours, read.logits, rtol=1e-5, atol=atol)
        assert (ours - logits(net, length)).abs().max() > 0.1
    torch.testing.assert_close(logits(net, length, attend="full"), ours)


def test_mixed_parts_have_no_counterpart() -> None:
    odd: list[dict[str, Any]] = [{"positions": "none"}, {"bias": False}, {**LLAMA, "norm": "layer"}]
    for options in odd:
        with pytest.raises(RequestError, match="only GPT-2's parts together"):
            transformer(**options).counterpart()
