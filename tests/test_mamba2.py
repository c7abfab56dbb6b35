"""Mamba-2: decoding equals reading, nothing leaks, weights start as published, and its size is what formulas say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support import numbered, scramble
from torch import Tensor

from foresee import seeds, spec
from foresee.backbones import backbones
from foresee.backbones.mamba2 import Mamba2
from foresee.backbones.mamba2_layer import Mamba2Layer
from foresee.backbones.state_space_dual import CHUNK
from foresee.errors import RequestError
from foresee.vocabulary import Vocabulary

WIDTH = 32
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "groups": {"groups": 2, "state": 6, "tied": False},
    "odd": {"head_width": 4, "state": 5, "convolution": 2, "expansion": 3},
    "no window": {"convolution": 1},
}


def mamba2(vocab_size: int = 13, seed: int = 0, **options: Any) -> Mamba2:
    """Two layers of width 32 and four heads unless told otherwise."""
    shape = {"layers": 2, "width": WIDTH, "state": 8, "head_width": 16}
    return Mamba2(numbered(vocab_size), seeds.torch_stream("test weights", seed), **{**shape, **options})


@pytest.fixture(params=KINDS)
def net(request: pytest.FixtureRequest) -> Mamba2:
    made = mamba2(**KINDS[request.param])
    scramble(made)
    return made


def inputs(length: int, rows: int = 3) -> Tensor:
    return torch.randn(rows, length, WIDTH, generator=seeds.torch_stream("states"))


# Decoding.


@torch.no_grad()
@pytest.mark.parametrize("prompt", [1, 2, 5, CHUNK, CHUNK + 9])
def test_decoding_equals_reading(net: Mamba2, prompt: int) -> None:
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
    return sum(part.untyped_storage().nbytes() for each in state for part in (each.window, each.heads))


@torch.no_grad()
def test_the_state_has_one_size_whatever_was_read(net: Mamba2) -> None:
    x = inputs(200)
    states = [net.start(x[:, :length])[1] for length in (1, 5, 200)]
    assert len({held(state) for state in states}) == 1
    stepped = [net.step(x[:, 0], state)[1] for state in states]
    assert len({held(state) for state in stepped}) == 1
    sizes = net.sizes
    heads = sizes.inner * sizes.state
    window = (sizes.convolution - 1) * sizes.convolved
    assert held(states[0]) == 4 * 3 * 2 * (heads + window)


@torch.no_grad()
def test_a_fork_continues_every_row_in_several_ways(net: Mamba2) -> None:
    prefix, ways = inputs(5, rows=2), inputs(3, rows=6)
    _, state = net.start(prefix)
    forked = net.fork(state, 3)
    whole = net(torch.cat((prefix.repeat_interleave(3, 0), ways), 1))
    for place in range(3):
        hidden, forked = net.step(ways[:, place], forked)
        torch.testing.assert_close(hidden, whole[:, 5 + place], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("ways", [1, 2])
def test_a_fork_leaves_the_state_it_came_from(net: Mamba2, ways: int) -> None:
    x = inputs(6)
    expected = net(x)[:, 5]
    _, state = net.start(x[:, :5])
    net.step(-x[:, 5].repeat_interleave(ways, 0), net.fork(state, ways))
    torch.testing.assert_close(net.step(x[:, 5], state)[0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_decoding_under_bfloat16_autocast(net: Mamba2) -> None:
    x = inputs(20)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, state = net.start(x[:, :3])
        for place in range(3, 20):
            hidden, state = net.step(x[:, place], state)
    exact = net(x)[:, -1]
    assert (hidden - exact).norm() / exact.norm() < 0.05


# Reading.


@torch.no_grad()
@pytest.mark.parametrize("keep", [slice(0, 9), slice(0, 1), slice(3, 7), slice(8, 9)], ids=str)
def test_keep_is_a_slice_of_the_whole(net: Mamba2, keep: slice) -> None:
    x = inputs(9)
    torch.testing.assert_close(net(x, keep=keep), net(x)[:, keep], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("length", [9, 3 * CHUNK])
def test_the_past_is_blind_to_the_future_through_every_layer(net: Mamba2, length: int) -> None:
    x, nudged = inputs(length), inputs(length)
    cut = length // 2 + 1
    nudged[:, cut:] = -x[:, cut:]
    torch.testing.assert_close(net(x)[:, :cut], net(nudged)[:, :cut], rtol=1e-5, atol=1e-6)
    assert ((net(x)[:, cut:] - net(nudged)[:, cut:]).abs().amax(-1) > 1e-3).all()


@torch.no_grad()
def test_trace_is_the_input_of_every_layer_and_the_output(net: Mamba2) -> None:
    x = inputs(9)
    trace = net.trace(x)
    assert trace.shape == (3, 3, 9, WIDTH)
    assert torch.equal(trace[0], x)
    assert torch.equal(trace[1], net.layers[0](x))
    assert torch.equal(trace[-1], net(x))


def outcome(net: Mamba2, **options: Any) -> tuple[Tensor, Tensor]:
    """Logits of some tokens, and the gradient of every parameter."""
    tokens = torch.randint(13, (4, 12), generator=seeds.torch_stream("tokens"))
    logits = net.logits(net(net.embed(tokens), **options))
    loss = logits.float().log_softmax(-1)[..., 0].mean()
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    return logits.detach().float(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("keep", [None, slice(5, 12)], ids=str)
def test_recomputing_keeps_less_and_gives_the_same_gradients(net: Mamba2, keep: slice | None) -> None:
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


def test_bfloat16_autocast_is_close_forwards_and_backwards(net: Mamba2) -> None:
    exact, gradient = outcome(net, keep=slice(5, 12))
    with torch.autocast("cpu", torch.bfloat16):
        rough, rough_gradient = outcome(net, keep=slice(5, 12))
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05
    assert torch.cosine_similarity(rough_gradient, gradient, 0) > 0.99


def test_every_weight_has_a_gradient(net: Mamba2) -> None:
    tokens = torch.arange(13)[None]
    net.logits(net(net.embed(tokens))).log_softmax(-1)[..., 0].sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


# Capabilities.


def test_it_can_only_read_backwards() -> None:
    assert mamba2().has == frozenset()


def test_what_it_cannot_do_is_refused(net: Mamba2) -> None:
    x = inputs(4)
    for attend in ("full", torch.ones(3, 4, 4, dtype=torch.bool)):
        with pytest.raises(RequestError, match=r"^mamba2: .*only.*attend='causal'"):
            net(x, attend=attend)
    with pytest.raises(RequestError, match=r"^mamba2: .*no positions"):
        net(x, positions=torch.arange(4))


def test_it_reads_any_length() -> None:
    assert mamba2().longest is None


# Weights.


@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_from_the_generator_alone(kind: str) -> None:
    first, same, other = (mamba2(seed=seed, **KINDS[kind]).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    drawn = {name for name, value in first.items() if value.std() > 0}
    assert all(not torch.equal(first[name], other[name]) for name in drawn)
    assert {name.rpartition(".")[2] for name in first.keys() - drawn} == {"D", "weight", "gated_norm_weight"}


def test_weights_start_as_published() -> None:
    net = mamba2(vocab_size=500, width=256, head_width=2, layers=4, state=16)
    assert net.token_table is not None
    assert net.token_table.std().item() == pytest.approx(0.02, rel=0.02)
    for layer in net.layers:
        assert isinstance(layer, Mamba2Layer)
        for weight, bound in (
            (layer.in_proj, 1 / math.sqrt(256)),
            (layer.out_proj, 1 / math.sqrt(512) / math.sqrt(4)),
            (layer.convolution_weight, 1 / math.sqrt(4)),
            (layer.convolution_bias, 1 / math.sqrt(4)),
        ):
            assert bound * 0.95 < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        A = layer.A_log.exp()
        assert 1 <= A.min() < 2
        assert 15 < A.max() <= 16
        assert A.mean().item() == pytest.approx(8.5, rel=0.1)
        dt = torch.nn.functional.softplus(layer.dt_bias)
        assert 0.001 <= dt.min() * 1.0001 < 0.0015
        assert 0.07 < dt.max() <= 0.1 * 1.0001
        assert dt.log().mean().item() == pytest.approx(math.log(0.01), abs=0.2)  # the middle of a log-uniform
        for ones in (layer.D, layer.norm.weight, layer.gated_norm_weight):
            assert torch.equal(ones, torch.ones_like(ones))


def test_weight_decay_spares_what_is_not_a_matrix() -> None:
    """The optimiser decays by the number of axes."""
    layer = mamba2().layers[0]
    flat = {name for name, value in layer.named_parameters() if value.dim() == 1}
    assert flat == {"A_log", "D", "dt_bias", "convolution_bias", "norm.weight", "gated_norm_weight"}


def test_a_twin_has_the_same_shape_and_other_weights(net: Mamba2) -> None:
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


def test_sizes_by_formula() -> None:
    V, L, W, S, H, G, K = 13, 2, 32, 6, 4, 2, 4
    net = mamba2(V, state=S, groups=G, tied=False)
    E, C = 2 * W, 2 * W + 2 * G * S
    products = L * (W * (E + C + H) + E * W)
    assert net.flops_per_token() == products + V * W
    other = L * (C * K + C + 3 * H + E + W) + W
    assert sum(value.numel() for value in net.parameters()) == products + other + 2 * V * W
    assert net.twin(seeds.torch_stream("twin")).flops_per_token() == products


def test_the_preset_and_the_defaults() -> None:
    options = spec.resolve(backbones, "mamba2-nano").options
    assert options == {
        "layers": 3, "width": 128, "state": 64, "head_width": 64, "groups": 1, "convolution": 4, "expansion": 2,
        "tied": True,
    }  # fmt: skip
    assert spec.resolve(backbones, "mamba2-nano").build(numbered(13), seeds.torch_stream("preset")).width == 128


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": 0}, "layers=0 must be at least 1"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"state": 0}, "state=0 must be at least 1"),
        ({"head_width": -1}, "head_width=-1 must be at least 1"),
        ({"groups": 0}, "groups=0 must be at least 1"),
        ({"convolution": 0}, "convolution=0 must be at least 1"),
        ({"expansion": 0}, "expansion=0 must be at least 1"),
        ({"head_width": 24}, "expansion=2 times width=32 is 64, which must be a multiple of head_width=24"),
        ({"head_width": 128}, "expansion=2 times width=32 is 64, which must be a multiple of head_width=128"),
        ({"groups": 3}, "groups=3 must divide the 4 heads"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(RequestError, match=f"^mamba2: {reason}"):
        mamba2(**options)


def test_a_twin_has_no_counterpart() -> None:
    with pytest.raises(RequestError, match=r"^mamba2: a twin has no token table"):
        Mamba2(Vocabulary(()), seeds.torch_stream("twin"), layers=1, width=32).counterpart()
