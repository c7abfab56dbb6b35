"""Mamba and Mamba-2 alike: decoding equals reading, nothing leaks, and what they cannot do is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from recurrent_nets import WIDTH, mamba, mamba2
from support import scramble
from torch import Tensor

from foresee.backbones.mamba import Mamba2, selective_scan, state_space_dual
from foresee.backbones.mamba.mamba import Mamba, MambaState
from foresee.backbones.mamba.mamba2 import Mamba2State
from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

Net = Mamba | Mamba2
KINDS: dict[str, Callable[..., Net]] = {
    "mamba": mamba,
    "mamba, odd": partial(mamba, state=3, convolution=2, expansion=3, time_step_rank=5, tied=False),
    "mamba, no window": partial(mamba, convolution=1),
    "mamba2": mamba2,
    "mamba2, groups": partial(mamba2, groups=2, state=6, tied=False),
    "mamba2, odd": partial(mamba2, head_width=4, state=5, convolution=2, expansion=3),
    "mamba2, no window": partial(mamba2, convolution=1),
}
NAMES: dict[type[Net], str] = {Mamba: "mamba", Mamba2: "mamba2"}
CHUNK: dict[type[Net], int] = {Mamba: selective_scan.CHUNK, Mamba2: state_space_dual.CHUNK}


@pytest.fixture(params=KINDS)
def net(request: pytest.FixtureRequest) -> Net:
    made = KINDS[request.param]()
    scramble(made)
    return made


def inputs(length: int, rows: int = 3) -> Tensor:
    return torch.randn(rows, length, WIDTH, generator=seeds.torch_stream("states"))


# Decoding.


@torch.no_grad()
@pytest.mark.parametrize(("chunks", "more"), [(0, 1), (0, 2), (0, 5), (1, 0), (1, 9)])
def test_decoding_equals_reading(net: Net, chunks: int, more: int) -> None:
    prompt = chunks * CHUNK[type(net)] + more
    x = inputs(prompt + 8).double()
    net.double()
    whole = net(x)
    hidden, state = net.start(x[:, :prompt])
    torch.testing.assert_close(hidden, whole[:, prompt - 1], rtol=1e-9, atol=1e-11)
    for place in range(prompt, prompt + 8):
        hidden, state = net.step(x[:, place], state)
        torch.testing.assert_close(hidden, whole[:, place], rtol=1e-9, atol=1e-11)


def held(state: Sequence[Any]) -> int:
    """Bytes of memory that a state keeps alive."""
    return sum(part.untyped_storage().nbytes() for each in state for part in vars(each).values())


def numbers_held(net: Net) -> int:
    """By a layer, of every row: the state of the scan, and the last inputs of the convolution."""
    if isinstance(net, Mamba):
        sizes = net.sizes
        return WIDTH * sizes["expansion"] * (sizes["state"] + sizes["convolution"] - 1)
    return net.sizes.inner * net.sizes.state + (net.sizes.convolution - 1) * net.sizes.convolved


@torch.no_grad()
def test_the_state_has_one_size_whatever_was_read(net: Net) -> None:
    x = inputs(200)
    states = [net.start(x[:, :length])[1] for length in (1, 5, 200)]
    assert {held(state) for state in states} == {4 * 3 * 2 * numbers_held(net)}
    for place in range(5):
        states = [net.step(x[:, place], state)[1] for state in states]
        assert len({held(state) for state in states}) == 1


@torch.no_grad()
def test_decoding_under_bfloat16_autocast(net: Net) -> None:
    x = inputs(20)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, state = net.start(x[:, :3])
        written = [hidden]
        for place in range(3, 20):
            hidden, state = net.step(x[:, place], state)
            written.append(hidden)
    for each in state:
        assert isinstance(each, MambaState | Mamba2State)
        assert (each.scan if isinstance(each, MambaState) else each.heads).dtype == torch.float32
    exact = net(x)[:, 2:]
    bound = 0.06 if isinstance(net, Mamba) else 0.05
    assert 0 < (torch.stack(written, 1) - exact).norm() / exact.norm() < bound
    assert (hidden - exact[:, -1]).norm() / exact[:, -1].norm() < bound


# Reading.


@torch.no_grad()
@pytest.mark.parametrize("keep", [slice(0, 9), slice(0, 1), slice(3, 7), slice(8, 9), slice(-3, None)], ids=str)
def test_keep_is_a_slice_of_the_whole(net: Net, keep: slice) -> None:
    x = inputs(9)
    torch.testing.assert_close(net(x, keep=keep), net(x)[:, keep], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("chunks", "more"), [(0, 9), (3, 0)])
def test_the_past_is_blind_to_the_future_through_every_layer(net: Net, chunks: int, more: int) -> None:
    length = chunks * CHUNK[type(net)] + more
    x, nudged = inputs(length), inputs(length)
    cut = length // 2 + 1
    nudged[:, cut:] = -x[:, cut:]
    torch.testing.assert_close(net(x)[:, :cut], net(nudged)[:, :cut], rtol=1e-5, atol=1e-6)
    assert ((net(x)[:, cut:] - net(nudged)[:, cut:]).abs().amax(-1) > 1e-3).all()


@torch.no_grad()
def test_trace_is_the_input_of_every_layer_and_the_output(net: Net) -> None:
    x = inputs(9)
    trace = net.trace(x)
    assert trace.shape == (3, 3, 9, WIDTH)
    assert torch.equal(trace[0], x)
    assert torch.equal(trace[1], net.layers[0](x))
    assert torch.equal(trace[-1], net(x))


def outcome(net: Net, **options: Any) -> tuple[Tensor, Tensor]:
    """Logits of some tokens, and the gradient of every parameter."""
    tokens = torch.randint(13, (4, 12), generator=seeds.torch_stream("tokens"))
    logits = net.logits(net(net.embed(tokens), **options))
    loss = logits.float().log_softmax(-1)[..., 0].mean()
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    return logits.detach().float(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("keep", [None, slice(5, 12)], ids=str)
def test_recomputing_keeps_less_and_gives_the_same_gradients(net: Net, keep: slice | None) -> None:
    kept: list[int] = []

    def count(value: Tensor) -> Tensor:
        kept.append(value.numel())
        return value

    with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        logits, gradient = outcome(net.train(), keep=keep)
        everything = sum(kept)
        kept.clear()
        net.recompute = True
        again, recomputed = outcome(net, keep=keep)
    assert sum(kept) < everything / 2
    assert torch.equal(again, logits)
    torch.testing.assert_close(recomputed, gradient, rtol=1e-5, atol=1e-7)


def test_bfloat16_autocast_is_close_forwards_and_backwards(net: Net) -> None:
    exact, gradient = outcome(net, keep=slice(5, 12))
    with torch.autocast("cpu", torch.bfloat16):
        rough, rough_gradient = outcome(net, keep=slice(5, 12))
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05
    assert torch.cosine_similarity(rough_gradient, gradient, 0) > 0.99


def test_every_weight_has_a_gradient(net: Net) -> None:
    tokens = torch.arange(13)[None]
    net.logits(net(net.embed(tokens))).log_softmax(-1)[..., 0].sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


# Capabilities.


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_it_can_only_read_backwards(name: str) -> None:
    assert KINDS[name]().has == frozenset()


def test_it_reads_any_length(net: Net) -> None:
    assert net.longest is None


def test_what_it_cannot_do_is_refused(net: Net) -> None:
    x, name = inputs(4), NAMES[type(net)]
    for attend in ("full", torch.ones(3, 4, 4, dtype=torch.bool)):
        with pytest.raises(RequestError, match=f"^{name}: .*only.*attend='causal'"):
            net(x, attend=attend)
    with pytest.raises(RequestError, match=f"^{name}: .*no positions"):
        net(x, positions=torch.arange(4))


# Weights.


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_alone_decides_the_weights(kind: str) -> None:
    nets = [KINDS[kind](seed=seed) for seed in (0, 0, 1)]
    first, same, other = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], same[name]) for name in first)
    fixed = {name for name in first if torch.equal(first[name], other[name])}
    further = "A_log" if isinstance(nets[0], Mamba) else "gated_norm_weight"
    assert {name.rpartition(".")[2] for name in fixed} == {"D", "weight", further}
    constant = {name for name, value in first.items() if not value.std() > 0}
    assert constant == {name for name in fixed if not name.endswith("A_log")}


def test_a_twin_has_the_same_shape_and_other_weights(net: Net) -> None:
    twin = net.twin(seeds.torch_stream("twin"))
    tables = {"token_table", "head"}
    shapes = {name: value.shape for name, value in net.named_parameters() if name not in tables}
    assert {name: value.shape for name, value in twin.named_parameters()} == shapes
    assert twin(inputs(5)).shape == (3, 5, WIDTH)
    assert not torch.allclose(twin(inputs(5)), net(inputs(5)), atol=0.1)
    assert twin.has == net.has
    with pytest.raises(RuntimeError, match="no token table"):
        twin.embed(torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="no output head"):
        twin.logits(inputs(5))


@pytest.mark.parametrize("kind", NAMES)
def test_a_twin_has_no_counterpart(kind: type[Net]) -> None:
    with pytest.raises(RequestError, match=f"^{NAMES[kind]}: a twin has no token table"):
        kind(Vocabulary(()), seeds.torch_stream("twin"), layers=1, width=32).counterpart()
