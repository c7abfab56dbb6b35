"""The chunked matrix products give what the recurrence gives, forwards, backwards and one position at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from foresee.backbones.mamba import state_space_dual as dual
from foresee.backbones.mamba.gated_norm import gated_norm
from foresee.backbones.mamba.state_space_dual import CHUNK, state_space_dual, state_space_outputs, state_space_step
from foresee.core import seeds

ROWS, HEADS, SIZE, STATE = 2, 4, 3, 5
LENGTHS = [1, 2, 31, CHUNK - 1, CHUNK, CHUNK + 1, 200]


def recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Position after position, head after head, as the paper writes it."""
    rows, length, heads, size = x.shape
    per_group = heads // B.shape[2]
    state = x.new_zeros(rows, heads, size, B.shape[3]) if initial is None else initial
    outputs = []
    for t in range(length):
        after, read = [], []
        for head in range(heads):
            group = head // per_group
            decay = torch.exp(dt[:, t, head] * A[head])[:, None, None]
            added = torch.einsum("b,bp,bn->bpn", dt[:, t, head], x[:, t, head], B[:, t, group])
            after.append(decay * state[:, head] + added)
            read.append(torch.einsum("bpn,bn->bp", after[-1], C[:, t, group]) + D[head] * x[:, t, head])
        state = torch.stack(after, 1)
        outputs.append(torch.stack(read, 1))
    return torch.stack(outputs, 1), state


def operands(length: int, groups: int = 1, initial: bool = True, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x, dt, A, B, C, D and, where asked for, an initial state; some heads forget at once and some hardly ever."""
    rng = seeds.torch_stream("state space dual", length, groups)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    dt = draw(ROWS, length, HEADS).exp() * torch.tensor([0.001, 0.05, 0.3, 1.0], dtype=dtype)
    A = -torch.tensor([16.0, 1.0, 0.5, 8.0], dtype=dtype)
    between = (ROWS, length, groups, STATE)
    made = [draw(ROWS, length, HEADS, SIZE), dt, A, draw(*between), draw(*between), draw(HEADS)]
    return [*made, draw(ROWS, HEADS, SIZE, STATE)] if initial else made


def gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a fixed random weighting of the outputs."""
    rng = seeds.torch_stream("weighting")
    total = sum(
        (out * torch.randn(out.shape, generator=rng, dtype=torch.float64).to(out.dtype)).sum() for out in outputs
    )
    assert isinstance(total, Tensor)
    return torch.autograd.grad(total, inputs)


@pytest.mark.parametrize("initial", [False, True], ids=["empty", "given"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_recurrence_forwards_and_backwards(length: int, groups: int, initial: bool) -> None:
    inputs = [value.requires_grad_() for value in operands(length, groups, initial)]
    ours, theirs = state_space_dual(*inputs), recurrence(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for own, other in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
def test_outputs_alone_are_the_same_outputs(length: int, groups: int) -> None:
    inputs = [value.requires_grad_() for value in operands(length, groups, initial=False)]
    ours, theirs = state_space_outputs(*inputs), state_space_dual(*inputs)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    for own, other in zip(gradients((ours,), inputs), gradients((theirs,), inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("length", [3, 8])
def test_gradients_by_finite_differences(monkeypatch: pytest.MonkeyPatch, length: int, groups: int) -> None:
    """Of every input, by every output, with one chunk and with several."""
    monkeypatch.setattr(dual, "CHUNK", 3)
    inputs = [value.requires_grad_() for value in operands(length, groups)]
    assert torch.autograd.gradcheck(state_space_dual, inputs)
    assert torch.autograd.gradcheck(state_space_outputs, inputs[:-1])


@pytest.mark.parametrize("chunk", [1, 2, 7, 20, 31, 100])
def test_the_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    expected = state_space_dual(*operands(31))
    monkeypatch.setattr(dual, "CHUNK", chunk)
    torch.testing.assert_close(state_space_dual(*operands(31)), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cut", [1, 64, 70, 149])
def test_a_sequence_may_be_cut_anywhere(cut: int) -> None:
    x, dt, A, B, C, D = operands(150, initial=False)
    whole, final = state_space_dual(x, dt, A, B, C, D)
    first, state = state_space_dual(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], D)
    second, end = state_space_dual(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], D, state)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(end, final, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_steps_are_the_sequence(groups: int) -> None:
    x, dt, A, B, C, D, state = operands(9, groups)
    whole, final = state_space_dual(x, dt, A, B, C, D, state)
    for t in range(9):
        y, state = state_space_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state)
        torch.testing.assert_close(y, whole[:, t], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(state, final, rtol=1e-10, atol=1e-12)


def test_the_past_is_blind_to_the_future() -> None:
    x, dt, A, B, C, D = operands(150, initial=False)
    before = state_space_outputs(x, dt, A, B, C, D)
    after = state_space_outputs(*(value.clone() for value in (x, dt, A, B, C, D)))
    assert torch.equal(before, after)
    for value in (x, dt, B, C):
        value[:, 100:] *= 2
    after = state_space_outputs(x, dt, A, B, C, D)
    torch.testing.assert_close(after[:, :100], before[:, :100], rtol=1e-12, atol=1e-14)
    assert (after[:, 100:] != before[:, 100:]).any((-1, -2)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fast_decays_neither_overflow_nor_leave_nan(dtype: torch.dtype) -> None:
    """Sums of decays of thousands, above and below the diagonal."""
    x, dt, A, B, C, D = (value.to(dtype).requires_grad_() for value in operands(130, initial=False))
    dt = (1000 * dt).detach().requires_grad_()
    y, final = state_space_dual(x, dt, A, B, C, D)
    found = gradients((y, final), [x, dt, A, B, C, D])
    assert all(value.isfinite().all() for value in (y, final, *found))


@pytest.mark.parametrize("length", [31, 150])
def test_bfloat16_autocast_keeps_decays_in_float32(length: int) -> None:
    inputs = [value.requires_grad_() for value in operands(length, initial=False, dtype=torch.float32)]
    exact = state_space_dual(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = state_space_dual(*inputs)
        alone = state_space_outputs(*inputs)
    assert (rough[0].dtype, rough[1].dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(alone, rough[0])
    for ours, theirs in zip(rough, exact, strict=True):
        assert 0 < (ours - theirs).norm() / theirs.norm() < 0.01
    for ours, theirs in zip(gradients(rough, inputs), gradients(exact, inputs), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() / theirs.norm() < 0.02


def test_float64_stays_float64_under_autocast() -> None:
    expected = state_space_dual(*operands(70))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(state_space_dual(*operands(70)), expected, rtol=0, atol=0)


# The kernels, where there are any: here a stand-in that takes what they take.


def stand_in(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
) -> Any:
    """With the signature and the checks of ``mamba_ssm.ops.triton.ssd_combined.mamba_chunk_scan_combined``."""
    rows, length, heads, size = x.shape
    groups, state = B.shape[2:]
    assert heads % groups == 0
    assert B.shape == C.shape == (rows, length, groups, state)
    assert (dt.shape, A.shape) == ((rows, length, heads), (heads,))
    assert chunk_size & (chunk_size - 1) == 0
    assert D is not None
    assert D.shape == (heads,)
    assert x.dtype == B.dtype == C.dtype
    assert dt.dtype == A.dtype == D.dtype == torch.float32
    assert initial_states is None or initial_states.shape == (rows, heads, size, state)
    assert z is None
    assert dt_bias is None
    assert seq_idx is None
    assert not dt_softplus
    assert dt_limit == (0.0, float("inf"))
    y, final = recurrence(x.float(), dt, A, B.float(), C.float(), D, initial_states)
    return (y.to(x.dtype), final) if return_final_states else y.to(x.dtype)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_kernels_are_given_what_they_take(monkeypatch: pytest.MonkeyPatch, autocast: bool) -> None:
    inputs = operands(70, groups=2, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = [*state_space_dual(*inputs), state_space_outputs(*inputs[:-1])]
        calls: list[int] = []

        def counted(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            return stand_in(*arguments, **options)

        monkeypatch.setattr(dual, "mamba_chunk_scan_combined", counted)
        monkeypatch.setattr(dual, "_kernels_serve", lambda x: True)
        found = [*state_space_dual(*inputs), state_space_outputs(*inputs[:-1])]
    assert len(calls) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).norm() / theirs.norm() < (0.01 if autocast else 1e-5)


def test_kernels_serve_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dual, "mamba_chunk_scan_combined", stand_in)
    assert not dual._kernels_serve(torch.zeros(1))


# The gated norm.


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("block_bytes", [1, 4 * 8 * 5, 1 << 20])
def test_the_gated_norm_by_its_formula(monkeypatch: pytest.MonkeyPatch, groups: int, block_bytes: int) -> None:
    """Whatever the blocks, and where a tensor is a slice of another."""
    monkeypatch.setattr("foresee.backbones.mamba.gated_norm.BLOCK_BYTES", block_bytes)
    rng = seeds.torch_stream("gated norm")
    y, both = (torch.randn(3, 4, 8 * n, generator=rng, dtype=torch.float64).requires_grad_() for n in (1, 2))
    weight = torch.randn(8, generator=rng, dtype=torch.float64).requires_grad_()
    ours = gated_norm(y[:, 1:], both[:, 1:, :8], weight, groups, 1e-5)
    gated = torch.unflatten((y * both[..., :8] * both[..., :8].sigmoid())[:, 1:], -1, (groups, -1))
    theirs = (gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2) * weight
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    inputs = [y, both, weight]
    for own, other in zip(gradients((ours,), inputs), gradients((theirs,), inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


def test_the_gated_norm_computes_in_float32() -> None:
    rng = seeds.torch_stream("gated norm in bfloat16")
    y, gate = (torch.randn(6, 32, generator=rng).bfloat16() for _ in range(2))
    weight = torch.randn(32, generator=rng)
    rough, exact = (gated_norm(y.to(kind), gate.to(kind), weight, 1, 1e-5) for kind in (y.dtype, torch.float32))
    assert rough.dtype == torch.bfloat16
    assert torch.equal(rough, exact.bfloat16())
