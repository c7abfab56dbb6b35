"""Scans, convolution and gated norm give what their formulas give: forwards, backwards, in pieces and step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from support import WIDTH, mamba, mamba2
from torch import Tensor
from torch.nn import functional

from foresee.backbones.mamba import convolution
from foresee.backbones.mamba import selective_scan as selective
from foresee.backbones.mamba import state_space_dual as dual
from foresee.backbones.mamba.convolution import causal_convolution, convolution_step
from foresee.backbones.mamba.mamba2 import gated_norm
from foresee.core import seeds

LENGTHS = [1, 2, 31, dual.CHUNK, dual.CHUNK + 1, 200]


def selective_recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Mamba's, position after position, as the paper writes it."""
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(torch.einsum("bd,dn->bnd", dt[:, t], A))
        state = decay * state + torch.einsum("bd,bn->bnd", dt[:, t] * x[:, t], B[:, t])
        outputs.append(torch.einsum("bnd,bn->bd", state, C[:, t]) + D * x[:, t])
    return torch.stack(outputs, 1), state


def dual_recurrence(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Mamba-2's, position after position, head after head, as the paper writes it."""
    heads, outputs = x.shape[2], []
    for t in range(x.shape[1]):
        after, read = [], []
        for head in range(heads):
            group = head * B.shape[2] // heads
            decay = torch.exp(dt[:, t, head] * A[head])[:, None, None]
            added = torch.einsum("b,bp,bn->bpn", dt[:, t, head], x[:, t, head], B[:, t, group])
            after.append(decay * state[:, head] + added)
            read.append(torch.einsum("bpn,bn->bp", after[-1], C[:, t, group]) + D[head] * x[:, t, head])
        state = torch.stack(after, 1)
        outputs.append(torch.stack(read, 1))
    return torch.stack(outputs, 1), state


def selective_operands(length: int, shape: tuple[int, int, int] = (2, 3, 4)) -> list[Tensor]:
    """x, dt, A, B, C, D in float64 and a first state; some channels forget at once and some hardly ever."""
    rows, channels, size = shape
    draw = drawer("selective scan", length, *shape)
    dt = draw(rows, length, channels).exp() * torch.logspace(-3, 0.5, channels, dtype=torch.float64)
    A, x = -draw(channels, size).exp(), draw(rows, length, channels)
    B, C = draw(rows, length, size), draw(rows, length, size)
    return [x, dt, A, B, C, draw(channels), draw(rows, size, channels)]


def dual_operands(length: int, groups: int = 1) -> list[Tensor]:
    """As ``selective_operands``, by heads."""
    rows, heads, size, state = 2, 4, 3, 5
    draw = drawer("state space dual", length, groups)
    dt = draw(rows, length, heads).exp() * torch.tensor([0.001, 0.05, 0.3, 1.0], dtype=torch.float64)
    A = -torch.tensor([16.0, 1.0, 0.5, 8.0], dtype=torch.float64)
    B, C = draw(rows, length, groups, state), draw(rows, length, groups, state)
    return [draw(rows, length, heads, size), dt, A, B, C, draw(heads), draw(rows, heads, size, state)]


def drawer(*key: str | int) -> Callable[..., Tensor]:
    rng = seeds.torch_stream(*key)
    return lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)


class Kind(NamedTuple):
    """A scan: operands by length, all outputs and the last state, outputs alone, one step, and the recurrence."""

    operands: Callable[[int], list[Tensor]]
    whole: Callable[..., tuple[Tensor, Tensor]]
    outputs: Callable[..., Tensor]
    step: Callable[..., tuple[Tensor, Tensor]]
    recurrence: Callable[..., tuple[Tensor, Tensor]]


def selective_kind(route: Any, shape: tuple[int, int, int]) -> Kind:
    return Kind(
        partial(selective_operands, shape=shape), partial(selective.continue_scan, route=route),
        partial(selective.selective_scan, route=route), selective.scan_step, selective_recurrence,
    )  # fmt: skip


def dual_kind(groups: int) -> Kind:
    return Kind(
        partial(dual_operands, groups=groups), dual.state_space_dual, dual.state_space_outputs, dual.state_space_step,
        dual_recurrence,
    )  # fmt: skip


SELECTIVE = {
    f"{route} {shape}": selective_kind(route, shape)
    for route in ("sequential", "parallel")
    for shape in ((2, 3, 4), (1, 1, 1), (3, 6, 2))
}
DUAL = {f"dual, {groups} groups": dual_kind(groups) for groups in (1, 2, 4)}
SCANS = SELECTIVE | DUAL


def of(kinds: dict[str, Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds.values(), ids=kinds.keys())


def tracked(values: list[Tensor]) -> list[Tensor]:
    return [value.detach().requires_grad_() for value in values]


def gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a fixed random weighting of the outputs."""
    draw = drawer("weighting")
    return torch.autograd.grad(outputs, inputs, [draw(*out.shape).to(out.dtype) for out in outputs])


def same(ours: Any, theirs: Any, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


# Scans ----------------------------------------------------------------------------------------------------------------


@of(SCANS)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_recurrence_forwards_and_backwards(kind: Kind, length: int) -> None:
    inputs = tracked(kind.operands(length))
    ours, theirs = kind.whole(*inputs), kind.recurrence(*inputs)
    same(ours, theirs)
    same(gradients(ours, inputs), gradients(theirs, inputs), 1e-8, 1e-10)
    inputs = inputs[:-1]
    nothing = torch.zeros_like(theirs[1])
    alone, theirs = kind.outputs(*inputs), kind.recurrence(*inputs, nothing)
    same((alone, *kind.whole(*inputs)), (theirs[0], *theirs))
    same(gradients((alone,), inputs), gradients(theirs[:1], inputs), 1e-8, 1e-10)


@of({name: kind for name, kind in SCANS.items() if "4)" in name or "4 groups" not in name})
@pytest.mark.parametrize("length", [1, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_gradients_by_finite_differences(monkeypatch: pytest.MonkeyPatch, kind: Kind, length: int) -> None:
    """Of every input, by every output, within one chunk and across several."""
    monkeypatch.setattr(selective, "CHUNK", 3)
    monkeypatch.setattr(dual, "CHUNK", 3)
    inputs = tracked(kind.operands(length))
    assert torch.autograd.gradcheck(kind.whole, inputs)
    assert torch.autograd.gradcheck(kind.outputs, inputs[:-1])


@of(SCANS)
def test_steps_are_the_sequence_and_the_last_state_alone_may_be_differentiated(kind: Kind) -> None:
    x, dt, A, B, C, D, state = kind.operands(9)
    whole, last = kind.recurrence(x, dt, A, B, C, D, state)
    for t in range(9):
        y, state = kind.step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state)
        same(y, whole[:, t])
    same(state, last)
    inputs = tracked(kind.operands(9))
    wanted = [inputs[place] for place in (0, 1, 2, 3, 6)]  # C and D have no part in it
    same(gradients(kind.whole(*inputs)[1:], wanted), gradients(kind.recurrence(*inputs)[1:], wanted), 1e-8, 1e-10)


@pytest.mark.parametrize("chunk", [1, 2, 7, 30, 31, 100])
@pytest.mark.parametrize("rows_a_block", [1, 2, 3, 5])
def test_neither_chunks_nor_blocks_change_anything(
    monkeypatch: pytest.MonkeyPatch, chunk: int, rows_a_block: int
) -> None:
    cases = [(SELECTIVE["sequential (2, 3, 4)"].whole, tracked(selective_operands(31, (5, 3, 4))))]
    cases += [(kind.whole, tracked(kind.operands(31))) for kind in DUAL.values()]
    expected = [(found := whole(*inputs), gradients(found, inputs)) for whole, inputs in cases]
    monkeypatch.setattr(selective, "CHUNK", chunk)
    monkeypatch.setattr(dual, "CHUNK", chunk)
    monkeypatch.setattr(selective, "BLOCK_BYTES", rows_a_block * min(chunk, 31) * 3 * 4 * 8)
    for (whole, inputs), wanted in zip(cases, expected, strict=True):
        same((found := whole(*inputs), gradients(found, inputs)), wanted, 1e-9, 1e-10)


@of(SELECTIVE)
def test_the_selective_scan_is_in_float32_whatever_is_given_and_autocast_says(kind: Kind) -> None:
    x, dt, A, B, C, D, state = (value.float() for value in kind.operands(40))
    halves = tracked([value.bfloat16() for value in (x, B, C)])
    exact = kind.whole(halves[0].float(), dt, A, halves[1].float(), halves[2].float(), D, state)
    wide = kind.whole(*(value.double() for value in (halves[0], dt, A, halves[1], halves[2], D, state)))
    torch.testing.assert_close(exact, wide, rtol=1e-4, atol=1e-5, check_dtype=False)
    with torch.autocast("cpu", torch.bfloat16):
        ours = kind.whole(halves[0], dt, A, halves[1], halves[2], D, state)
        found = gradients(ours, halves)
    assert all(map(torch.equal, ours, exact))
    assert all(map(torch.equal, found, gradients(exact, halves)))
    assert all(each.dtype == torch.bfloat16 for each in found)


@of(DUAL)
@pytest.mark.parametrize("length", [31, 150])
def test_the_dual_form_keeps_decays_in_float32_under_autocast(kind: Kind, length: int) -> None:
    inputs = tracked([value.float() for value in kind.operands(length)])[:-1]
    exact = kind.whole(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough, alone = kind.whole(*inputs), kind.outputs(*inputs)
        same(kind.whole(*kind.operands(length)), kind.recurrence(*kind.operands(length)))  # float64 stays float64
    assert (rough[0].dtype, rough[1].dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(alone, rough[0])
    for ours, theirs in zip(rough, exact, strict=True):
        assert 0 < (ours - theirs).norm() / theirs.norm() < 0.01
    for ours, theirs in zip(gradients(rough, inputs), gradients(exact, inputs), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() / theirs.norm() < 0.02


@of(SCANS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_violent_decays_neither_overflow_nor_leave_nan(kind: Kind, dtype: torch.dtype) -> None:
    """Over 200 steps they multiply to e^-120000 and less, of which no inverse may be taken."""
    x, dt, A, B, C, D, state = (value.to(dtype) for value in kind.operands(200))
    A = -torch.linspace(12, 40, A.numel()).view(A.shape).to(dtype)
    inputs = tracked([x, (0 * dt + 50), A, B, C, D, state])
    ours = kind.whole(*inputs)
    assert all(each.isfinite().all() for each in (*ours, *gradients(ours, inputs)))
    if dtype == torch.float32:
        torch.testing.assert_close(ours, kind.recurrence(*inputs), rtol=1e-4, atol=1e-3)


def test_little_is_kept() -> None:
    """For the backward pass, the states between chunks; for decoding, the last state and nothing it was made from."""
    inputs, kept = tracked(selective_operands(200)), dict[int, int]()

    def count(value: Tensor) -> Tensor:
        kept[value.data_ptr()] = value.numel()
        return value

    with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        selective.continue_scan(*inputs)
    between = -(-200 // selective.CHUNK) - 1
    assert sum(kept.values()) == sum(value.numel() for value in inputs) + between * inputs[-1].numel()
    for kind in (SELECTIVE["sequential (2, 3, 4)"], SELECTIVE["parallel (2, 3, 4)"], *DUAL.values()):
        _, last = kind.whole(*kind.operands(100))
        assert last.untyped_storage().nbytes() == last.numel() * 8


# The convolution ------------------------------------------------------------------------------------------------------


def filters(length: int, taps: int) -> list[Tensor]:
    """x [3, T, 5], weight [5, K], bias [5]; x is a part of a wider tensor, as behind a projection."""
    draw = drawer("convolution", length, taps)
    return [draw(3, length, 9)[..., 2:7], draw(5, taps), draw(5)]


def library(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padded = functional.pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    return functional.conv1d(padded, weight[:, None], bias, groups=len(weight)).transpose(1, 2)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("length", [1, 2, 3, 20])
@pytest.mark.parametrize("taps", [1, 2, 4])
def test_the_convolution_is_the_librarys_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, length: int, taps: int, bias: bool
) -> None:
    inputs = tracked(filters(length, taps))[: 3 if bias else 2]
    given = (inputs[0], inputs[1], inputs[2] if bias else None)
    for cache in (convolution.CACHE_BYTES, 2 * length * 5 * 4):  # all rows at once, and two and then one
        monkeypatch.setattr(convolution, "CACHE_BYTES", cache)
        ours, theirs = causal_convolution(*given), library(*given)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(gradients((ours,), inputs), gradients((theirs,), inputs))
    assert torch.autograd.gradcheck(lambda *values: causal_convolution(values[0], values[1], given[2]), inputs[:2])


def test_the_convolution_sums_in_float32() -> None:
    x, weight, bias = (value.float() for value in filters(20, 4))
    ours = causal_convolution(x.bfloat16(), weight, bias)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, library(x.bfloat16().float(), weight, bias).bfloat16(), rtol=2**-8, atol=1e-6)
    window = x[:, 1:4]
    with torch.autocast("cpu", torch.bfloat16):
        under = convolution_step(x[:, 0], window, weight, bias)[0]
    assert torch.equal(under, convolution_step(x[:, 0], window, weight, bias)[0])


# The gated norm -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("block_bytes", [1, 4 * 8 * 5, 1 << 20])
def test_the_gated_norm_by_its_formula(monkeypatch: pytest.MonkeyPatch, groups: int, block_bytes: int) -> None:
    """Whatever the blocks, where a tensor is a slice of another, and in float32 where it is given less."""
    monkeypatch.setattr("foresee.backbones.mamba.mamba2.BLOCK_BYTES", block_bytes)
    draw = drawer("gated norm")
    inputs = tracked([draw(3, 4, 8), draw(3, 4, 16), draw(8)])
    y, both, weight = inputs
    ours = gated_norm(y[:, 1:], both[:, 1:, :8], weight, groups, 1e-5)
    gated = torch.unflatten((y * both[..., :8] * both[..., :8].sigmoid())[:, 1:], -1, (groups, -1))
    theirs = (gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2) * weight
    same(ours, theirs, 1e-12, 1e-14)
    same(gradients((ours,), inputs), gradients((theirs,), inputs))
    check = partial(gated_norm, groups=groups, eps=1e-5)
    assert torch.autograd.gradcheck(check, (y[:, 1:], both[:, 1:, :8], weight))
    half, gate = draw(6, 8).bfloat16(), draw(6, 8).bfloat16()
    rough, exact = (check(half.to(kind), gate.to(kind), weight.float()) for kind in (half.dtype, torch.float32))
    assert rough.dtype == torch.bfloat16
    assert torch.equal(rough, exact.bfloat16())


# Mamba and Mamba-2: weights start as published, and a state has one size whatever was read


BOUNDS = {"in_proj": 1 / math.sqrt(256), "convolution_weight": 0.5, "convolution_bias": 0.5,
          "out_proj": 1 / math.sqrt(512) / math.sqrt(4)}  # fmt: skip


@pytest.mark.parametrize(
    ("net", "further"),
    [
        (partial(mamba, state=16), {"x_proj": 1 / math.sqrt(512), "dt_proj": 1 / math.sqrt(16)}),
        (partial(mamba2, state=16, head_width=2), {}),
    ],
    ids=["mamba", "mamba2"],
)
def test_weights_start_as_published(net: Callable[..., Any], further: dict[str, float]) -> None:
    made = net(vocab_size=500, width=256, layers=4)
    assert made.token_table.std().item() == pytest.approx(0.02, rel=0.02)
    for layer in made.layers:
        for name, bound in (BOUNDS | further).items():
            weight = layer.get_parameter(name)
            assert bound * 0.95 < weight.abs().max() <= bound, name
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), name
        A = layer.A_log.exp()
        if further:
            torch.testing.assert_close(A, torch.arange(1.0, 17).expand(512, 16))
        else:
            assert 1 <= A.min() < 2
            assert 15 < A.max() <= 16
            assert A.mean().item() == pytest.approx(8.5, rel=0.1)
        dt = functional.softplus(layer.dt_bias)
        assert 0.001 <= dt.min() * 1.0001 < 0.0015
        assert 0.07 < dt.max() <= 0.1 * 1.0001
        assert dt.log().mean().item() == pytest.approx(math.log(0.01), abs=0.2)  # the middle of a log-uniform
        ones = [layer.D, layer.norm.weight] + ([] if further else [layer.gated_norm_weight])
        assert all(torch.equal(value, torch.ones_like(value)) for value in ones)
    for width, rank in ((128, 8), (32, 2), (33, 3), (8, 1)) if further else ():
        assert net(width=width).layers[0].dt_proj.shape == (2 * width, rank)


@torch.no_grad()
@pytest.mark.parametrize(
    ("net", "numbers"),
    [
        (mamba, 2 * WIDTH * (8 + 3)),
        (partial(mamba, state=3, convolution=2, expansion=3), 3 * WIDTH * (3 + 1)),
        (mamba2, 2 * WIDTH * 8 + 3 * (2 * WIDTH + 2 * 8)),
        (partial(mamba2, state=6, groups=2, convolution=1), 2 * WIDTH * 6),
    ],
    ids=["mamba", "mamba, odd", "mamba2", "mamba2, groups, no window"],
)
def test_a_state_has_one_size_whatever_was_read_and_stays_float32(net: Callable[[], Any], numbers: int) -> None:
    made = net()
    x = torch.randn(3, 200, WIDTH, generator=seeds.torch_stream("states"))

    def held(state: list[Any]) -> int:
        """Bytes of memory that a state keeps alive."""
        parts: list[Tensor] = [part for each in state for part in (each.window, each.scan)]
        return sum(part.untyped_storage().nbytes() for part in parts)

    states = [made.start(x[:, :length])[1] for length in (1, 5, 200)]
    assert {held(state) for state in states} == {4 * 3 * 2 * numbers}
    for place in range(5):
        states = [made.step(x[:, place], state)[1] for state in states]
        assert len({held(state) for state in states}) == 1
    with torch.autocast("cpu", torch.bfloat16):
        _, state = made.step(x[:, 0], made.start(x)[1])
    assert {each.scan.dtype for each in state} == {torch.float32}
