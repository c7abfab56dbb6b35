"""What only the Transformer has: masks, positions, attention that can be shown, GPT-2's spread of weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support import scramble, transformer
from torch import Tensor
from torch.nn import functional

from foresee.backbones import attention as module
from foresee.backbones.attention import attention, causal_attention
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


# The unfused attention route beside PyTorch's own, and its backward pass beside finite differences


B, H, Q, K, D = 2, 3, 5, 7, 4


def draw(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeds.torch_stream("attention", name), dtype=dtype).requires_grad_()


def inputs(dtype: torch.dtype = torch.float32, queries: int = Q, keys: int = K) -> tuple[Tensor, Tensor, Tensor]:
    return (
        draw("q", B, H, queries, D, dtype=dtype),
        draw("k", B, H, keys, D, dtype=dtype),
        draw("v", B, H, keys, D, dtype=dtype),
    )


def mask(*shape: int) -> Tensor:
    """Random visibility in which every query reads something."""
    visible = torch.rand(shape, generator=seeds.torch_stream("visible")) < 0.5
    visible[..., 0] = True
    return visible


MASKS = {"none": None, "each row": mask(B, 1, Q, K), "each head": mask(1, H, Q, K), "shared": mask(Q, K)}


@pytest.fixture(params=MASKS)
def visible(request: pytest.FixtureRequest) -> Tensor | None:
    return MASKS[request.param]


def outcome(out: Tensor, leaves: tuple[Tensor, ...]) -> list[Tensor]:
    """The output and the gradients of a weighted sum of it."""
    weights = draw("weights", *out.shape).detach().to(out.dtype)
    return [out, *torch.autograd.grad((out * weights).sum(), leaves)]


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 0.05)])
def test_unfused_equals_fused(visible: Tensor | None, dtype: torch.dtype, atol: float) -> None:
    q, k, v = inputs(dtype)
    ours = outcome(attention(q, k, v, visible), (q, k, v))
    wide_q, wide_k, wide_v = (tensor.detach().to(torch.float64).requires_grad_() for tensor in (q, k, v))
    reference = functional.scaled_dot_product_attention(wide_q, wide_k, wide_v, attn_mask=visible)
    fused = outcome(reference, (wide_q, wide_k, wide_v))
    for mine, other in zip(ours, fused, strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.double(), other, rtol=0, atol=atol)


def test_gradient_is_that_of_finite_differences(visible: Tensor | None) -> None:
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, visible), inputs(torch.float64))


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    q, k, v = inputs()
    (gradient,) = torch.autograd.grad(attention(q, k, v, None).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(gradient.sum())


@pytest.mark.parametrize(("queries", "first"), [(Q, 0), (Q, 2), (K, 0)])
def test_causal_is_a_mask_of_earlier_positions(queries: int, first: int) -> None:
    """Also with more keys than queries reach, as in a decoding buffer."""
    q, k, v = inputs(queries=queries)
    visible = torch.ones(queries, K, dtype=torch.bool).tril(first)
    assert torch.equal(causal_attention(q, k, v, first), attention(q, k, v, visible))
    reach = first + queries
    fused = functional.scaled_dot_product_attention(q, k[:, :, :reach], v[:, :, :reach], attn_mask=visible[:, :reach])
    torch.testing.assert_close(causal_attention(q, k, v, first), fused)


@pytest.mark.parametrize("longest", [K, K - 1])
def test_the_route_changes_with_the_number_of_keys(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_UNFUSED", longest)
    q, k, v = inputs()
    out = attention(q, k, v, None)
    assert out.grad_fn is not None
    assert ("Unfused" in out.grad_fn.name()) == (longest == K)
    torch.testing.assert_close(out, functional.scaled_dot_product_attention(q, k, v))


def test_a_query_that_may_read_nothing_is_not_a_number() -> None:
    q, k, v = inputs()
    visible = mask(Q, K)
    visible[2] = False
    blind = attention(q, k, v, visible).isnan().any(-1).any(0).any(0)
    assert blind.tolist() == [False, False, True, False, False]
