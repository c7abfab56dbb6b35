"""The Transformer: decoding equals reading, nothing leaks, and its size is what the formulas say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support import scramble, transformer
from torch import Tensor

from foresee.backbones import backbones
from foresee.backbones.transformer import Transformer
from foresee.core import seeds, spec
from foresee.core.errors import RequestError

KINDS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "tied": False},
    "none": {"positions": "none"},
}


@pytest.fixture(params=KINDS)
def net(request: pytest.FixtureRequest) -> Transformer:
    made = transformer(context=64, **KINDS[request.param])
    scramble(made)
    return made


def states(length: int, rows: int = 3, width: int = 32) -> Tensor:
    return torch.randn(rows, length, width, generator=seeds.torch_stream("states"))


def some_mask(length: int, rows: int = 3) -> Tensor:
    visible = torch.rand(rows, length, length, generator=seeds.torch_stream("some mask")) < 0.5
    return visible | torch.eye(length, dtype=torch.bool)


# Decoding.


@torch.no_grad()
@pytest.mark.parametrize("prompt", [1, 2, 17, 63])
@pytest.mark.parametrize("room", [0, 1, 16, 1000])
def test_decoding_equals_reading(net: Transformer, prompt: int, room: int) -> None:
    """To the end of the context, past every buffer's first room."""
    x = states(64)
    whole = net(x)
    hidden, state = net.start(x[:, :prompt], room)
    torch.testing.assert_close(hidden, whole[:, prompt - 1], rtol=1e-4, atol=1e-5)
    for place in range(prompt, 64):
        hidden, state = net.step(x[:, place], state)
        torch.testing.assert_close(hidden, whole[:, place], rtol=1e-4, atol=1e-5)
    with pytest.raises(RequestError, match="65 tokens does not fit context=64"):
        net.step(x[:, 0], state)


# Reading.


@torch.no_grad()
@pytest.mark.parametrize("keep", [slice(0, 9), slice(0, 1), slice(3, 7), slice(8, 9)], ids=str)
@pytest.mark.parametrize("attend", ["causal", "full", "mask"])
def test_keep_is_a_slice_of_the_whole(net: Transformer, attend: Any, keep: slice) -> None:
    x = states(9)
    attend = some_mask(9) if attend == "mask" else attend
    torch.testing.assert_close(net(x, attend=attend, keep=keep), net(x, attend=attend)[:, keep], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_masks_say_the_same_as_words(net: Transformer) -> None:
    x, every = states(9), torch.ones(3, 9, 9, dtype=torch.bool)
    torch.testing.assert_close(net(x, attend=every), net(x, attend="full"))
    torch.testing.assert_close(net(x, attend=every.tril()), net(x))


@torch.no_grad()
@pytest.mark.parametrize("attend", ["causal", "full", "mask"])
@pytest.mark.parametrize("place", [0, 4, 8])
def test_a_position_reads_what_it_may_and_nothing_else(attend: Any, place: int) -> None:
    """One layer, so that nothing is read at second hand."""
    net = transformer(layers=1)
    scramble(net)
    x, nudged = states(9), states(9)
    nudged[:, place] += states(1)[:, 0]
    readers = {
        "causal": torch.arange(9).ge(place).expand(3, -1),
        "full": torch.ones(3, 9, dtype=torch.bool),
        "mask": some_mask(9)[:, :, place],
    }[attend]
    attend = some_mask(9) if attend == "mask" else attend
    moved = (net(x, attend=attend) != net(nudged, attend=attend)).any(-1)
    assert torch.equal(moved, readers)


@torch.no_grad()
def test_the_past_is_blind_to_the_future_through_every_layer(net: Transformer) -> None:
    x, nudged = states(9), states(9)
    nudged[:, 4:] = -x[:, 4:]
    assert torch.equal(net(x)[:, :4], net(nudged)[:, :4])
    assert (net(x)[:, 4:] != net(nudged)[:, 4:]).any(-1).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["learned", "rotary"])
def test_positions_given_for_every_row(kind: str) -> None:
    net = transformer(context=64, **KINDS[kind])
    scramble(net)
    x = states(9)
    torch.testing.assert_close(net(x, positions=torch.arange(9)), net(x))
    each = torch.stack([torch.randperm(64, generator=seeds.torch_stream("row", row))[:9] for row in range(3)])
    together = net(x, positions=each)
    for row in range(3):
        torch.testing.assert_close(together[row], net(x[row : row + 1], positions=each[row])[0])
    assert not torch.allclose(together, net(x), atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["learned", "rotary"])
def test_given_positions_may_repeat_beyond_the_context(kind: str) -> None:
    """Two rows read as one: each sees itself, at the positions it would have had."""
    net = transformer(context=9, **KINDS[kind])
    scramble(net)
    x = states(9, rows=2)
    apart = torch.kron(torch.eye(2), torch.ones(9, 9).tril()).bool()[None]
    packed = net(x.view(1, 18, -1), attend=apart, positions=torch.arange(9).repeat(2))
    torch.testing.assert_close(packed.view(2, 9, -1), net(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rotary_positions_are_relative_and_learned_ones_are_not() -> None:
    x, shifted = states(9), torch.arange(9) + 40
    for kind, relative in (("rotary", True), ("learned", False)):
        net = transformer(context=64, **KINDS[kind])
        scramble(net)
        assert torch.allclose(net(x, positions=shifted), net(x), atol=1e-4) is relative


@torch.no_grad()
def test_without_positions_a_final_state_sees_the_rest_as_a_bag() -> None:
    net = transformer(positions="none", layers=1)
    scramble(net)
    x = states(9)
    mixed = torch.cat((x[:, :8].flip(1), x[:, 8:]), 1)
    torch.testing.assert_close(net(x)[:, -1], net(mixed)[:, -1])


def test_bfloat16_autocast_is_close_forwards_and_backwards(net: Transformer) -> None:
    tokens = torch.randint(13, (4, 12), generator=seeds.torch_stream("tokens"))

    def outcome(enabled: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = net.logits(net(net.embed(tokens), keep=slice(5, 12)))
        assert logits.dtype == (torch.bfloat16 if enabled else torch.float32)
        parameters = list(net.parameters())
        gradients = torch.autograd.grad(logits.float().log_softmax(-1)[..., 0].mean(), parameters)
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        return logits.detach().float(), torch.cat([gradient.flatten() for gradient in gradients])

    (exact, gradient), (rough, rough_gradient) = outcome(False), outcome(True)
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05
    assert torch.cosine_similarity(rough_gradient, gradient, 0) > 0.99


@torch.no_grad()
def test_decoding_under_bfloat16_autocast(net: Transformer) -> None:
    x = states(20)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, state = net.start(x[:, :3])
        for place in range(3, 20):
            hidden, state = net.step(x[:, place], state)
    exact = net(x)[:, -1]
    assert (hidden - exact).norm() / exact.norm() < 0.05


# Weights.


@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_from_the_generator_alone(kind: str) -> None:
    first, same, other = (transformer(seed=seed, **KINDS[kind]).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    drawn = [name for name, value in first.items() if value.std() > 0]
    assert all(not torch.equal(first[name], other[name]) for name in drawn)
    assert {name.split(".")[-2] for name in drawn if "." in name} == {
        "attention_in", "attention_out", "mlp_in", "mlp_out",
    }  # fmt: skip


def test_weights_have_the_spread_of_gpt2() -> None:
    net = transformer(vocab_size=500, width=128, layers=3)
    weights = {name: value for name, value in net.named_parameters() if value.dim() == 2}
    for name, value in weights.items():
        residual = name.endswith(("attention_out.weight", "mlp_out.weight"))
        expected = 0.02 / math.sqrt(2 * 3) if residual else 0.02
        assert value.std().item() == pytest.approx(expected, rel=0.05), name
    assert len(weights) == 2 + 4 * 3


def test_a_twin_has_the_same_shape_and_other_weights(net: Transformer) -> None:
    twin = net.twin(seeds.torch_stream("twin"))
    tables = {"token_table", "head"}
    shapes = {name: value.shape for name, value in net.named_parameters() if name not in tables}
    assert {name: value.shape for name, value in twin.named_parameters()} == shapes
    assert twin(states(5)).shape == (3, 5, 32)
    assert not torch.allclose(twin(states(5)), net(states(5)), atol=0.1)
    with pytest.raises(RuntimeError, match="no token table"):
        twin.embed(torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="no output head"):
        twin.logits(states(5))


def parameters(net: Transformer) -> int:
    return sum(value.numel() for value in net.parameters())


def test_sizes_by_formula() -> None:
    V, C, L, W, F = 13, 64, 2, 32, 48
    gpt2 = transformer(V, context=C)
    assert parameters(gpt2) == V * W + C * W + L * (12 * W * W + 13 * W) + 2 * W
    assert gpt2.flops_per_token() == 12 * L * W * W + V * W
    llama = transformer(V, hidden=F, **KINDS["rotary"])
    assert parameters(llama) == 2 * V * W + L * (4 * W * W + 3 * W * F + 2 * W) + W
    assert llama.flops_per_token() == L * (4 * W * W + 3 * W * F) + V * W
    assert gpt2.twin(seeds.torch_stream("twin")).flops_per_token() == 12 * L * W * W


@pytest.mark.parametrize(
    ("preset", "layers", "width", "heads"), [("gpt-nano", 3, 128, 4), ("gpt-mini", 12, 384, 6)]
)  # fmt: skip
def test_presets(preset: str, layers: int, width: int, heads: int) -> None:
    options = spec.resolve(backbones, preset).options
    assert (options["layers"], options["width"], options["heads"]) == (layers, width, heads)
    assert (options["positions"], options["norm"], options["tied"]) == ("learned", "layer", True)


# Requests that cannot be met.


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": 0}, "layers=0 must be at least 1"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"heads": -1}, "heads=-1 must be at least 1"),
        ({"context": 0}, "context=0 must be at least 1"),
        ({"hidden": 0}, "hidden=0 must be at least 1"),
        ({"width": 30}, "width=30 must be a multiple of heads=4"),
        ({"width": 12, "positions": "rotary"}, "an even quotient for rotary"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(RequestError, match=f"^transformer: .*{reason}"):
        transformer(**options)


def test_a_sequence_beyond_the_context_is_refused(net: Transformer) -> None:
    assert net.longest == 64
    for read in (net, net.trace, net.start):
        read(states(64))
        with pytest.raises(
            RequestError, match=r"sequence of 65 tokens does not fit context=64; set context=65 or more"
        ):
            read(states(65))


def test_positions_without_a_use_for_them_are_refused() -> None:
    with pytest.raises(RequestError, match="positions=none has no use for given positions"):
        transformer(positions="none")(states(4), positions=torch.arange(4))


@pytest.mark.parametrize("shape", ["learned", "rotary"])
def test_recomputing_activations_changes_no_gradient(shape: Any) -> None:
    x = torch.randn(2, 9, 32, generator=seeds.torch_stream("recompute"))
    gradients = []
    for recompute in (False, True):
        net = transformer(positions=shape)
        net.recompute = recompute
        net(x, keep=slice(4, 9)).square().sum().backward()
        gradients.append({name: value.grad for name, value in net.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_recomputing_activations_keeps_fewer() -> None:
    def kept(recompute: bool) -> int:
        net = transformer(layers=4)
        net.recompute = recompute
        x = torch.zeros(4, 16, 32).requires_grad_()
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            net(x)
        return sum(sizes)

    assert kept(recompute=True) < kept(recompute=False) / 4
