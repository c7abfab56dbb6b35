"""The causal convolution with channels last gives what PyTorch's own gives, forwards, backwards and step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones.mamba import convolution
from foresee.backbones.mamba.convolution import causal_convolution, convolution_step, last_inputs
from foresee.core import seeds

CASES = [(length, taps) for length in (1, 2, 3, 20) for taps in (1, 2, 4)]


def operands(length: int, taps: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x [3, T, 5], weight [5, K], bias [5]; x is a part of a wider tensor, as behind a projection."""
    rng = seeds.torch_stream("convolution", length, taps)
    sizes = ((3, length, 9), (5, taps), (5,))
    wide, weight, bias = (torch.randn(*size, generator=rng, dtype=torch.float64).to(dtype) for size in sizes)
    return [wide[..., 2:7], weight, bias]


def library(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padded = functional.pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    return functional.conv1d(padded, weight[:, None], bias, groups=len(weight)).transpose(1, 2)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("length", "taps"), CASES)
def test_the_library_forwards_and_backwards(length: int, taps: int, bias: bool) -> None:
    inputs = [value.detach().requires_grad_() for value in operands(length, taps)]
    given = (inputs[0], inputs[1], inputs[2] if bias else None)
    ours, theirs = causal_convolution(*given), library(*given)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn(ours.shape, generator=seeds.torch_stream("weights"), dtype=torch.float64)
    wanted = inputs if bias else inputs[:2]
    torch.testing.assert_close(torch.autograd.grad(ours, wanted, weights), torch.autograd.grad(theirs, wanted, weights))


def test_gradients_by_finite_differences() -> None:
    inputs = [value.detach().requires_grad_() for value in operands(6, 4)]
    assert torch.autograd.gradcheck(causal_convolution, inputs)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [value.detach().requires_grad_() for value in operands(6, 4)]
    expected = causal_convolution(*inputs)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    monkeypatch.setattr(convolution, "CACHE_BYTES", 2 * 6 * 5 * 4)  # two rows, then one
    ours = causal_convolution(*inputs)
    assert torch.equal(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours.square().sum(), inputs), wanted)


def test_the_sum_is_made_in_float32() -> None:
    x, weight, bias = operands(20, 4, torch.float32)
    half = x.bfloat16()
    ours = causal_convolution(half, weight, bias)
    assert ours.dtype == torch.bfloat16
    exact = library(half.float(), weight, bias)
    torch.testing.assert_close(ours, exact.bfloat16(), rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("read", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("taps", [1, 2, 4])
def test_steps_are_the_sequence(taps: int, read: int, bias: bool) -> None:
    x, weight, given = operands(12, taps)
    added = given if bias else None
    whole = causal_convolution(x, weight, added)
    window = last_inputs(x[:, :read], taps)
    for t in range(read, 12):
        y, window = convolution_step(x[:, t], window, weight, added)
        torch.testing.assert_close(y, whole[:, t])
        assert window.shape == (3, taps - 1, 5)


def test_a_step_is_made_in_float32_under_autocast() -> None:
    x, weight, bias = operands(1, 4, torch.float32)
    window = torch.randn(3, 3, 5, generator=seeds.torch_stream("window"))
    expected, _ = convolution_step(x[:, 0], window, weight, bias)
    with torch.autocast("cpu", torch.bfloat16):
        ours, _ = convolution_step(x[:, 0], window, weight, bias)
    assert torch.equal(ours, expected)
