"""The unfused attention route beside PyTorch's own, and its backward pass beside finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import attention as module
from foresee.backbones.attention import attention, causal_attention
from foresee.core import seeds

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


@pytest.mark.parametrize("first", [0, 2])
def test_causal_is_a_mask_of_earlier_positions(first: int) -> None:
    """With more keys than queries reach, as in a decoding buffer."""
    q, k, v = inputs()
    visible = torch.ones(Q, K, dtype=torch.bool).tril(first)
    assert torch.equal(causal_attention(q, k, v, first), attention(q, k, v, visible))
    reach = first + Q
    fused = functional.scaled_dot_product_attention(q, k[:, :, :reach], v[:, :, :reach], attn_mask=visible[:, :reach])
    torch.testing.assert_close(causal_attention(q, k, v, first), fused)


def test_causal_of_a_square_equals_the_fused_causal_route() -> None:
    q, k, v = inputs(queries=K)
    fused = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(causal_attention(q, k, v), fused)


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
