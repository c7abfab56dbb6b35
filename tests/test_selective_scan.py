"""Every route of the selective scan gives what the recurrence gives, forwards, backwards and one position at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from foresee.backbones.mamba import selective_scan as scans
from foresee.backbones.mamba.selective_scan import (
    Route,
    by_kernel,
    continue_scan,
    published_kernel,
    scan_step,
    selective_scan,
)
from foresee.core import seeds

ROUTES: list[Route] = ["sequential", "parallel"]
SHAPES = [(1, 1, 1), (2, 3, 4), (3, 6, 2)]
"""Rows, channels, and numbers kept for each channel."""

LENGTHS = [1, 2, 31, 200]


def recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Position after position, as the paper writes it."""
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(torch.einsum("bd,dn->bnd", dt[:, t], A))
        state = decay * state + torch.einsum("bd,bn->bnd", dt[:, t] * x[:, t], B[:, t])
        outputs.append(torch.einsum("bnd,bn->bd", state, C[:, t]) + D * x[:, t])
    return torch.stack(outputs, 1), state


def operands(length: int, shape: tuple[int, int, int] = (2, 3, 4), state: bool = True) -> list[Tensor]:
    """x, dt, A, B, C, D in float64 and a first state; some channels forget at once and some hardly ever."""
    rows, channels, size = shape
    rng = seeds.torch_stream("selective scan", length, *shape)

    def draw(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=rng, dtype=torch.float64)

    dt = draw(rows, length, channels).exp() * torch.logspace(-3, 0.5, channels, dtype=torch.float64)
    A = -draw(channels, size).exp()
    first = draw(rows, size, channels) if state else torch.zeros(rows, size, channels, dtype=torch.float64)
    between = (rows, length, size)
    return [draw(rows, length, channels), dt, A, draw(*between), draw(*between), draw(channels), first]


def gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a fixed random weighting of the outputs."""
    rng = seeds.torch_stream("weighting")
    weights = [torch.randn(out.shape, generator=rng, dtype=torch.float64).to(out.dtype) for out in outputs]
    return torch.autograd.grad(outputs, inputs, weights)


@pytest.mark.parametrize("state", [False, True], ids=["empty", "given"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("route", ROUTES)
def test_the_recurrence_forwards_and_backwards(
    route: Route, shape: tuple[int, int, int], length: int, state: bool
) -> None:
    inputs = [value.requires_grad_() for value in operands(length, shape, state)]
    ours, theirs = continue_scan(*inputs, route=route), recurrence(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for own, other in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("route", ROUTES)
def test_outputs_alone_start_from_nothing(route: Route) -> None:
    inputs = [value.requires_grad_() for value in operands(31, state=False)[:-1]]
    first = torch.zeros(2, 4, 3, dtype=torch.float64)
    ours, theirs = selective_scan(*inputs, route=route), recurrence(*[*inputs, first])[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for own, other in zip(gradients((ours,), inputs), gradients((theirs,), inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize("route", ROUTES)
def test_gradients_by_finite_differences(monkeypatch: pytest.MonkeyPatch, route: Route, length: int) -> None:
    """Of every input, by every output, within one chunk and across several."""
    monkeypatch.setattr(scans, "CHUNK", 3)
    inputs = [value.requires_grad_() for value in operands(length)]
    assert torch.autograd.gradcheck(lambda *values: continue_scan(*values, route=route), inputs)


@pytest.mark.parametrize("route", ROUTES)
def test_the_last_state_alone_may_be_differentiated(route: Route) -> None:
    inputs = [value.requires_grad_() for value in operands(9)]
    wanted = [inputs[place] for place in (0, 1, 2, 3, 6)]  # C and D have no part in it
    ours, theirs = continue_scan(*inputs, route=route)[1:], recurrence(*inputs)[1:]
    for own, other in zip(gradients(ours, wanted), gradients(theirs, wanted), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 2, 7, 30, 31, 100])
@pytest.mark.parametrize("rows_a_block", [1, 2, 3, 5])
def test_neither_chunks_nor_blocks_change_anything(
    monkeypatch: pytest.MonkeyPatch, chunk: int, rows_a_block: int
) -> None:
    inputs = [value.requires_grad_() for value in operands(31, (5, 3, 4))]
    expected = continue_scan(*inputs)
    wanted = gradients(expected, inputs)
    monkeypatch.setattr(scans, "CHUNK", chunk)
    monkeypatch.setattr(scans, "BLOCK_BYTES", rows_a_block * min(chunk, 31) * 3 * 4 * 8)
    ours = continue_scan(*inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradients(ours, inputs), wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("cut", [1, 32, 40, 149])
@pytest.mark.parametrize("route", ROUTES)
def test_a_sequence_may_be_cut_anywhere(route: Route, cut: int) -> None:
    x, dt, A, B, C, D, state = operands(150)
    whole, last = continue_scan(x, dt, A, B, C, D, state, route=route)
    first, state = continue_scan(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], D, state, route=route)
    second, end = continue_scan(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], D, state, route=route)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(end, last, rtol=1e-10, atol=1e-12)


def test_steps_are_the_sequence() -> None:
    x, dt, A, B, C, D, state = operands(9)
    whole, last = recurrence(x, dt, A, B, C, D, state)
    for t in range(9):
        y, state = scan_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state)
        torch.testing.assert_close(y, whole[:, t], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("route", ROUTES)
def test_float32_is_close_to_float64(route: Route, length: int) -> None:
    exact = operands(length)
    rough = [value.float() for value in exact]
    torch.testing.assert_close(
        continue_scan(*rough, route=route), continue_scan(*exact, route=route), rtol=1e-4, atol=1e-5, check_dtype=False
    )


@pytest.mark.parametrize("route", ROUTES)
def test_float32_whatever_autocast_says(route: Route) -> None:
    inputs = [value.float().requires_grad_() for value in operands(40)]
    expected = continue_scan(*inputs, route=route)
    wanted = gradients(expected, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        ours = continue_scan(*inputs, route=route)
        found = gradients(ours, inputs)
    assert all(map(torch.equal, ours, expected))
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("route", ROUTES)
def test_half_inputs_are_read_exactly_and_have_gradients_of_their_own_type(route: Route) -> None:
    x, dt, A, B, C, D, state = (value.float() for value in operands(12))
    halves = [value.bfloat16().requires_grad_() for value in (x, B, C)]
    ours = continue_scan(halves[0], dt, A, halves[1], halves[2], D, state, route=route)
    exact = continue_scan(halves[0].float(), dt, A, halves[1].float(), halves[2].float(), D, state, route=route)
    assert all(map(torch.equal, ours, exact))
    assert all(each.dtype == torch.bfloat16 for each in gradients(ours, halves))


@pytest.mark.parametrize("route", ROUTES)
def test_violent_decays_stay_finite(route: Route) -> None:
    """Over 200 steps these decays multiply to e^-120000 and less, of which no inverse may be taken."""
    inputs = [value.float() for value in operands(200)]
    inputs[1] = inputs[1] * 0 + 50
    inputs[2] = -torch.linspace(12, 40, 12).view(3, 4)
    inputs = [value.requires_grad_() for value in inputs]
    ours, theirs = continue_scan(*inputs, route=route), recurrence(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    assert all(each.isfinite().all() for each in gradients(ours, inputs))


@pytest.mark.parametrize("route", ROUTES)
def test_the_last_state_holds_no_other_memory(route: Route) -> None:
    """It is kept while decoding, when what it was made from should be gone."""
    _, last = continue_scan(*operands(100), route=route)
    assert last.untyped_storage().nbytes() == 2 * 3 * 4 * 8


def test_few_states_are_kept_for_the_backward_pass() -> None:
    inputs = [value.requires_grad_() for value in operands(200)]
    kept: dict[int, int] = {}

    def count(value: Tensor) -> Tensor:
        kept[value.data_ptr()] = value.numel()
        return value

    with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        continue_scan(*inputs)
    chunks = -(-200 // scans.CHUNK)
    assert sum(kept.values()) == sum(value.numel() for value in inputs) + (chunks - 1) * inputs[-1].numel()


# The authors' kernel --------------------------------------------------------------------------------------------------


def stand_in(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """What ``mamba_ssm``'s function gives for u and delta [B, D, T], A [D, N], B and C [B, N, T], D [D]."""
    assert all(value.dtype == torch.float32 for value in (u, delta, A, B, C, D))
    assert all(value.is_contiguous() for value in (u, delta, B, C))
    rows, channels, length = u.shape
    size = A.shape[1]
    assert delta.shape == u.shape
    assert (A.shape, D.shape) == ((channels, size), (channels,))
    assert B.shape == C.shape == (rows, size, length)
    x, dt, B, C = (value.transpose(1, 2) for value in (u, delta, B, C))
    return recurrence(x, dt, A, B, C, D, u.new_zeros(rows, size, channels))[0].transpose(1, 2)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package in the place of ``mamba_ssm``."""
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"):
        module = ModuleType(name)
        module.selective_scan_fn = stand_in  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    published_kernel.cache_clear()
    yield
    published_kernel.cache_clear()


@pytest.mark.usefixtures("installed")
def test_the_kernel_is_given_its_own_layout() -> None:
    kernel = published_kernel()
    assert kernel is stand_in
    inputs = [value.float().requires_grad_() for value in operands(12, state=False)[:-1]]
    ours, theirs = by_kernel(kernel, *inputs), selective_scan(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for own, other in zip(gradients((ours,), inputs), gradients((theirs,), inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)


def test_no_kernel_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    published_kernel.cache_clear()
    assert published_kernel() is None
    published_kernel.cache_clear()
