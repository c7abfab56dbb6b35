"""With the weights of the Hugging Face models of Mamba and Mamba-2, ours gives what they give, and the reverse."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from recurrent_nets import mamba, mamba2
from support import scramble
from torch import Tensor
from transformers import AutoModelForCausalLM, Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

from foresee.backbones.counterparts.mamba import matching_weights
from foresee.backbones.mamba import Mamba, Mamba2
from foresee.core import seeds

ROWS, VOCAB_SIZE, LAYERS = 3, 19, 3
LENGTHS = [1, 3, 31, 150]
Net = Mamba | Mamba2
SHAPE: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "layers": LAYERS, "state": 6}
KINDS: dict[str, Callable[[], Net]] = {
    "mamba, tied": partial(mamba, **SHAPE),
    "mamba, untied": partial(mamba, **SHAPE, tied=False, time_step_rank=5),
    "mamba, wide, short": partial(mamba, **SHAPE | {"state": 4}, expansion=3, convolution=2),
    "mamba2, one group": partial(mamba2, **SHAPE),
    "mamba2, groups, untied": partial(mamba2, **SHAPE, groups=2, tied=False),
    "mamba2, wide, short": partial(mamba2, **SHAPE, head_width=12, expansion=3, convolution=2),
}


@pytest.fixture(params=KINDS)
def net(request: pytest.FixtureRequest) -> Net:
    made = KINDS[request.param]()
    scramble(made)
    return made


def tokens(length: int) -> Tensor:
    return torch.randint(VOCAB_SIZE, (ROWS, length), generator=seeds.torch_stream("agreement", length))


def configured(net: Net) -> Any:
    """A model of the library in the sizes of ``net``, configured apart from ``counterpart``."""
    shared: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE, "hidden_size": 32, "num_hidden_layers": LAYERS,
        "tie_word_embeddings": net.head is None,
    }  # fmt: skip
    if isinstance(net, Mamba):
        options = net.sizes
        return MambaForCausalLM(
            MambaConfig(
                expand=options["expansion"], state_size=options["state"], conv_kernel=options["convolution"],
                time_step_rank=options["time_step_rank"], **shared,
            )
        )  # fmt: skip
    sizes = net.sizes
    return Mamba2ForCausalLM(
        Mamba2Config(
            expand=sizes.expansion, num_heads=sizes.heads, head_dim=sizes.head_width, state_size=sizes.state,
            n_groups=sizes.groups, conv_kernel=sizes.convolution, chunk_size=8, **shared,
        )
    )  # fmt: skip


def theirs_like(net: Net) -> Any:
    """A random model of the library in the sizes of ``net``."""
    with torch.random.fork_rng(devices=()):
        made = configured(net)
    scramble(made)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if name.endswith("A_log"):
                value -= 2  # slower decays, so that much is remembered from far back
    return made.eval()


def through_a_folder(model: Any, folder: Path) -> Any:
    """Saved and loaded again, as anybody would."""
    with torch.random.fork_rng(devices=()):  # the library may draw what it then overwrites
        model.save_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)  # in evaluation mode


def close(net: Net, ours: Tensor, theirs: Tensor) -> None:
    """As float32 allows after sums over 150 positions and three layers; Mamba-2 takes differences of running totals,
    of order one."""
    atol = 1e-5 * max(1.0, theirs.abs().max().item()) if isinstance(net, Mamba) else 5e-4
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=atol)


@torch.no_grad()
@pytest.mark.parametrize("length", LENGTHS)
def test_the_counterpart_gives_equal_logits(net: Net, length: int) -> None:
    theirs: Any = net.counterpart()
    assert theirs.dtype == torch.float32
    assert not theirs.training
    logits = theirs(tokens(length), use_cache=False).logits
    close(net, net.logits(net(net.embed(tokens(length)))), logits)
    assert logits.std() > 0.2  # large enough that a mistake would show


@torch.no_grad()
def test_the_counterpart_survives_a_folder(net: Net, tmp_path: Path) -> None:
    loaded = through_a_folder(net.counterpart(), tmp_path)
    assert type(loaded) is (MambaForCausalLM if isinstance(net, Mamba) else Mamba2ForCausalLM)
    close(net, net.logits(net(net.embed(tokens(31)))), loaded(tokens(31), use_cache=False).logits)


@torch.no_grad()
@pytest.mark.parametrize("length", LENGTHS)
def test_every_layer_of_a_loaded_checkpoint_agrees(net: Net, tmp_path: Path, length: int) -> None:
    theirs = through_a_folder(theirs_like(net), tmp_path)
    before = net.logits(net(net.embed(tokens(length))))
    for ours, other in matching_weights(net, theirs):
        ours.copy_(other)
    inputs: list[Tensor] = []
    for each in theirs.backbone.layers:
        each.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    read = theirs(tokens(length), use_cache=False, output_hidden_states=True)
    x = net.embed(tokens(length))
    trace = net.trace(x)
    # The library lists what comes out of every layer, and then the normed output.
    assert len(trace) == len(read.hidden_states) == LAYERS + 1
    for ours, other in zip(trace, [*inputs, read.hidden_states[-1]], strict=True):
        close(net, ours, other)
    for ours, other in zip(trace[1:-1], read.hidden_states, strict=False):
        close(net, ours, other)
    close(net, net.logits(net(x)), read.logits)
    assert (read.logits - before).abs().max() > 0.1


@torch.no_grad()
def test_every_weight_is_matched_once(net: Net) -> None:
    theirs = theirs_like(net)
    pairs = matching_weights(net, theirs)
    assert all(ours.shape == other.shape for ours, other in pairs)
    assert {ours.data_ptr() for ours, _ in pairs} == {value.data_ptr() for value in net.parameters()}
    assert {other.data_ptr() for _, other in pairs} == {value.data_ptr() for value in theirs.parameters()}
    assert len(pairs) == len(list(net.parameters())) == len(list(theirs.parameters()))


@torch.no_grad()
def test_decoding_agrees(net: Net) -> None:
    theirs, read = net.counterpart(), tokens(9)
    x = net.embed(read)
    hidden, state = net.start(x[:, :4])
    out = theirs(read[:, :4], use_cache=True)
    close(net, net.logits(hidden), out.logits[:, -1])
    for place in range(4, 9):
        hidden, state = net.step(x[:, place], state)
        out = theirs(read[:, place : place + 1], cache_params=out.cache_params, use_cache=True)
        close(net, net.logits(hidden), out.logits[:, -1])


def test_gradients_agree(net: Net) -> None:
    """Of one loss, at every weight, backwards through the scan or the products of our own."""
    theirs = net.counterpart().train()

    def loss(logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)[..., 0].mean()

    loss(net.logits(net(net.embed(tokens(31))))).backward()  # type: ignore[no-untyped-call]
    loss(theirs(tokens(31), use_cache=False).logits).backward()  # type: ignore[no-untyped-call]
    grads = dict(theirs.named_parameters())
    names = {value.data_ptr(): name for name, value in grads.items()}
    for ours, other in matching_weights(net, theirs):
        expected = grads[names[other.data_ptr()]].grad
        assert ours.grad is not None
        assert expected is not None
        expected = expected.reshape(ours.shape)
        torch.testing.assert_close(ours.grad, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
