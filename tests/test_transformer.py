"""What only the Transformer has: masks, positions, attention that can be shown, GPT-2's spread of weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support import scramble, transformer
from torch import Tensor

from foresee.backbones.block import Block
from foresee.backbones.transformer import Transformer
from foresee.core import seeds
from foresee.core.errors import RequestError

KINDS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "tied": False},
    "none": {"positions": "none"},
}


def made(kind: str, **options: Any) -> Transformer:
    net = transformer(**{"context": 64, **KINDS[kind], **options})
    scramble(net)
    return net


@pytest.fixture(params=KINDS)
def net(request: pytest.FixtureRequest) -> Transformer:
    return made(request.param)


def states(length: int, rows: int = 3) -> Tensor:
    return torch.randn(rows, length, 32, generator=seeds.torch_stream("states"))


def some_mask(length: int, rows: int = 3) -> Tensor:
    visible = torch.rand(rows, length, length, generator=seeds.torch_stream("some mask")) < 0.5
    return visible | torch.eye(length, dtype=torch.bool)


@torch.no_grad()
def test_a_mask_says_the_same_as_words_and_may_be_cut(net: Transformer) -> None:
    x, every = states(9), torch.ones(3, 9, 9, dtype=torch.bool)
    torch.testing.assert_close(net(x, attend=every), net(x, attend="full"))
    torch.testing.assert_close(net(x, attend=every.tril()), net(x))
    for keep in (slice(0, 9), slice(0, 1), slice(3, 7), slice(8, 9)):
        kept, whole = net(x, attend=some_mask(9), keep=keep), net(x, attend=some_mask(9))
        torch.testing.assert_close(kept, whole[:, keep], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("attend", ["causal", "full", "mask"])
@pytest.mark.parametrize("place", [0, 4, 8])
def test_a_position_reads_what_it_may_and_nothing_else(attend: Any, place: int) -> None:
    """One layer, so that nothing is read at second hand."""
    net = made("learned", layers=1)
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
@pytest.mark.parametrize("kind", ["learned", "rotary"])
def test_positions_given_for_every_row(kind: str) -> None:
    net, x = made(kind), states(9)
    torch.testing.assert_close(net(x, positions=torch.arange(9)), net(x))
    each = torch.stack([torch.randperm(64, generator=seeds.torch_stream("row", row))[:9] for row in range(3)])
    together = net(x, positions=each)
    for row in range(3):
        torch.testing.assert_close(together[row], net(x[row : row + 1], positions=each[row])[0])
    assert not torch.allclose(together, net(x), atol=0.1)
    # Relative or not: a shift of all places is seen by a table alone.
    assert torch.allclose(net(x, positions=torch.arange(9) + 40), net(x), atol=1e-4) is (kind == "rotary")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["learned", "rotary"])
def test_given_positions_may_repeat_beyond_the_context(kind: str) -> None:
    """Two rows read as one: each sees itself, at the positions it would have had."""
    net, x = made(kind, context=9), states(9, rows=2)
    apart = torch.kron(torch.eye(2), torch.ones(9, 9).tril()).bool()[None]
    packed = net(x.view(1, 18, -1), attend=apart, positions=torch.arange(9).repeat(2))
    torch.testing.assert_close(packed.view(2, 9, -1), net(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_positions_a_final_state_sees_the_rest_as_a_bag() -> None:
    net, x = made("none", layers=1), states(9)
    mixed = torch.cat((x[:, :8].flip(1), x[:, 8:]), 1)
    torch.testing.assert_close(net(x)[:, -1], net(mixed)[:, -1])
    with pytest.raises(RequestError, match="positions=none has no use for given positions"):
        net(x, positions=torch.arange(9))


@torch.no_grad()
def test_shown_attention_weighs_the_values_of_the_last_layer(net: Transformer) -> None:
    """Rebuilds the final states from the probabilities shown, so that what is shown is what is used."""
    x = states(6)
    shown = net.attention(x)
    assert shown.shape == (2, 3, 4, 6, 6)
    torch.testing.assert_close(shown.sum(-1), torch.ones(2, 3, 4, 6))
    assert not shown.triu(1).any()
    block, below = net.blocks[-1], net.with_trunk(x)[0]
    assert isinstance(block, Block)
    _, _, values = block.queries_keys_values(below, None, None)
    rebuilt = net.final_norm(block.finish(below, shown[-1] @ values))
    torch.testing.assert_close(rebuilt, net(x), rtol=1e-4, atol=1e-5)


def test_weights_have_the_spread_of_gpt2() -> None:
    net = transformer(vocab_size=500, width=128, layers=3)
    weights = {name: value for name, value in net.named_parameters() if value.dim() == 2}
    for name, value in weights.items():
        residual = name.endswith(("attention_out.weight", "mlp_out.weight"))
        expected = 0.02 / math.sqrt(2 * 3) if residual else 0.02
        assert value.std().item() == pytest.approx(expected, rel=0.05), name
    assert len(weights) == 2 + 4 * 3
