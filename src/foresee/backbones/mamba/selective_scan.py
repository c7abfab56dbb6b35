"""The selective scan of Mamba (Gu & Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces").

For every sequence and channel d a state of N numbers, and an output at every position (algorithm 2; B is discretised by
an Euler step, as in the authors' code, in place of equation 4):

    state[n] = exp(dt[d] A[d, n]) state[n] + dt[d] B[n] x[d]        y[d] = sum over n of C[n] state[n] + D[d] x[d]

One step of 64 sequences of 768 channels moves 3 MB of states, so what counts is how often memory is passed over. States
are laid out as [rows, steps, N, D], channels last: elementwise operations run over long rows, and the sums over n and
over d are batched matrix products. Long sequences are cut into chunks, and the rows into blocks of which a chunk stays
in the processor's cache. Only the state before each chunk is kept for the backward pass, which computes the others anew
(section 3.3.2). Powers of two stand for powers of e, which take PyTorch five times as long on a CPU.

On a CPU chunk follows chunk (route "sequential"). Elsewhere, where every operation costs a launch however small, all
chunks run at once, as if they were rows (route "parallel"): a first pass finds what each adds to the state, a short
loop over chunks gives their true first states, and a second pass runs them from those. It multiplies only decays, at
most one each: nothing overflows.

The arithmetic is in float32 (float64 for float64 inputs) whatever autocast says. Not differentiable twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from foresee.backbones.mamba.stack import Operands

Route = Literal["sequential", "parallel"]

CHUNK = 32
"""Steps between two kept states on a CPU: 8 and 16 were slower, and 64 leaves the cache."""

BLOCK_BYTES, DEVICE_BLOCK_BYTES = 6 << 20, 1 << 30
"""What the states of one block may take on a CPU, where the backward pass has three arrays of that size at work (small
enough for the cache, large enough that a step is worth several threads), and elsewhere: a bound on memory alone."""


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, route: Route | None = None
) -> Tensor:
    """Outputs [B, T, D] from empty states, in float32 (float64).

    x [B, T, D]; dt [B, T, D], positive time steps; A [D, N], negative; B and C [B, T, N]; D [D], the weight of x in its
    own output. ``route`` overrides the choice by device.
    """
    return continue_scan(x, dt, A, B, C, D, route=route)[0]


def continue_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None,
    *, route: Route | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As ``selective_scan`` from a state [B, N, D] on (empty unless given), and the state after the outputs."""
    if state is None:
        state = x.new_zeros(len(x), A.shape[1], A.shape[0])
    high = torch.promote_types(x.dtype, torch.float32)
    x, dt, A, B, C, D, state = (each.to(high) for each in (x, dt, A.T.contiguous(), B, C, D, state))
    rows, length, channels = x.shape
    chunks = 1
    if (route or ("sequential" if x.device.type == "cpu" else "parallel")) == "parallel":
        # About as many chunks as steps in each, since there is a loop over either.
        chunks = math.isqrt(length)
        steps = -(-length // chunks)
        x, dt, B, C = (_fold(each, chunks, steps) for each in (x, dt, B, C))
    y, last = _Scan.apply(x, dt, A, B, C, D, state, chunks)  # type: ignore[no-untyped-call]  # torch leaves apply without types
    return y.view(rows, -1, channels)[:, :length], last


def scan_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One position: x and dt [B, D], B and C [B, N], a state [B, N, D] -> its output [B, D] and the new state."""
    high = torch.promote_types(x.dtype, torch.float32)
    x, dt, A, B, C, D = (each.to(high) for each in (x, dt, A.T, B, C, D))
    state = torch.addcmul((dt * x)[:, None] * B[..., None], (dt[:, None] * A).exp(), state)
    return torch.addcmul((state * C[..., None]).sum(1), x, D), state


def _fold(each: Tensor, chunks: int, steps: int) -> Tensor:
    """[B, T, X] -> [B * chunks, steps, X]. A time step of zero, as at the padding, leaves the state as it is."""
    return functional.pad(each, (0, 0, 0, chunks * steps - each.shape[1])).reshape(-1, steps, each.shape[2])


class _Scan(torch.autograd.Function):
    """On x, dt [rows, steps, D], A [N, D], B, C [rows, steps, N], D [D], where each sequence is ``chunks`` rows, and
    the first states of sequences [rows / chunks, N, D]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor, chunks: int
    ) -> tuple[Tensor, Tensor]:
        y, starts = torch.empty_like(x, memory_format=torch.contiguous_format), []
        with torch.autocast(x.device.type, enabled=False):
            if chunks > 1:
                state = _first_states(x, dt, A, B, state, chunks)
            for at in _spans(x.shape[1], chunks):
                starts.append(state)
                state = _chunk_forward((x[:, at], dt[:, at], A, B[:, at], C[:, at], D), state, y[:, at])
        ctx.chunks = chunks
        ctx.save_for_backward(x, dt, A, B, C, D, *starts)
        return y, torch.unflatten(state, 0, (-1, chunks))[:, -1].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, *starts = ctx.saved_tensors
        grads = [torch.zeros_like(each, memory_format=torch.contiguous_format) for each in (x, dt, A, B, C, D)]
        with torch.autocast(x.device.type, enabled=False):
            if ctx.chunks > 1:
                grad_state = _last_gradients(dt, A, C, grad_y, grad_state, ctx.chunks)
            for at, start in reversed(list(zip(_spans(x.shape[1], ctx.chunks), starts, strict=True))):
                inputs, outputs = (
                    (a[:, at], b[:, at], c, d[:, at], e[:, at], f) for a, b, c, d, e, f in ((x, dt, A, B, C, D), grads)
                )
                grad_state = _chunk_backward(inputs, start, grad_y[:, at], grad_state, outputs)
        return *grads, torch.unflatten(grad_state, 0, (-1, ctx.chunks))[:, 0], None


def _spans(length: int, chunks: int) -> list[slice]:
    steps = CHUNK if chunks == 1 else length
    return [slice(first, min(length, first + steps)) for first in range(0, length, steps)]


# What joins chunks that run at once ----------------------------------------------------------------------------------


def _first_states(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor, chunks: int) -> Tensor:
    """The states that chunks start from [rows, N, D]: what each adds, carried on through the next ones."""
    added, nothing = x.new_empty(len(x), *A.shape), x.new_zeros(())
    for rows, (decays, states) in _blocks(x, A, 2):
        _run(x[rows], dt[rows], A, B[rows], nothing, decays, states)
        added[rows] = states[:, -1]
    return _carry(state, added, _whole_decays(dt, A), chunks, range(chunks))


def _last_gradients(dt: Tensor, A: Tensor, C: Tensor, grad_y: Tensor, grad_state: Tensor, chunks: int) -> Tensor:
    """The gradients of the states that chunks end with [rows, N, D]: likewise, the last chunk first."""
    added, nothing = dt.new_empty(len(dt), *A.shape), dt.new_zeros(())
    for rows, (decays, grad_states) in _blocks(dt, A, 2):
        _fill_decays(dt[rows][:, :, None], A, decays)
        _run_back(grad_y[rows], C[rows], nothing, decays, grad_states)
        torch.mul(decays[:, 0], grad_states[:, 0], out=added[rows])
    return _carry(grad_state, added, _whole_decays(dt, A), chunks, range(chunks - 1, -1, -1))


def _whole_decays(dt: Tensor, A: Tensor) -> Tensor:
    """How much of its first state each chunk leaves [rows, N, D]."""
    out = dt.new_empty(len(dt), *A.shape)
    _fill_decays(dt.sum(1)[:, None], A, out)
    return out


def _carry(first: Tensor, added: Tensor, decays: Tensor, chunks: int, order: range) -> Tensor:
    """What each chunk is given, [rows, N, D]: ``first`` [rows / chunks, N, D] for the first in ``order``, then what the
    one before was given, decayed, and what it added."""
    added, decays = (torch.unflatten(each, 0, (-1, chunks)) for each in (added, decays))
    given = torch.empty_like(added)
    for chunk in order:
        given[:, chunk] = first
        first = torch.addcmul(added[:, chunk], decays[:, chunk], first)
    return given.flatten(0, 1)


# One chunk, by blocks of rows: states are [rows, steps, N, D], A is [N, D], and the other inputs may be views. --------


def _chunk_forward(inputs: Operands, start: Tensor, y: Tensor) -> Tensor:
    """Fills y [rows, steps, D]; gives the states after the chunk [rows, N, D]."""
    x, dt, A, B, C, D = inputs
    last = torch.empty_like(start)
    for rows, (decays, states) in _blocks(x, A, 2):
        _run(x[rows], dt[rows], A, B[rows], start[rows], decays, states)
        last[rows] = states[:, -1]
        torch.addcmul(_sum_over_state(C[rows], states), x[rows], D, out=y[rows])
    return last


def _chunk_backward(inputs: Operands, start: Tensor, grad_y: Tensor, grad_last: Tensor, grads: Operands) -> Tensor:
    """Fills or adds to the gradients of ``inputs``; gives that of ``start``."""
    x, dt, A, B, C, D = inputs
    grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D = grads
    grad_start = torch.empty_like(start)
    for rows, (decays, states, grad_states) in _blocks(x, A, 3):
        above, x_, dt_ = grad_y[rows], x[rows], dt[rows]
        _run(x_, dt_, A, B[rows], start[rows], decays, states)
        grad_C[rows] = _sum_over_channels(above, states)
        _run_back(above, C[rows], grad_last[rows], decays, grad_states)
        grad_B[rows] = _sum_over_channels(dt_ * x_, grad_states)
        grad_driven = _sum_over_state(B[rows], grad_states)
        # From here on the gradient of dt A, the exponents: a decay's own gradient times the decay.
        exponents = decays.mul_(grad_states)
        grad_start[rows] = exponents[:, 0]
        exponents[:, 0].mul_(start[rows])
        exponents[:, 1:].mul_(states[:, :-1])
        grad_A += torch.mul(exponents, dt_[:, :, None], out=states).sum((0, 1))
        torch.addcmul(torch.mul(exponents, A, out=states).sum(2), grad_driven, x_, out=grad_dt[rows])
        torch.addcmul(above * D, grad_driven, dt_, out=grad_x[rows])
        grad_D += (above * x_).sum((0, 1))
    return grad_start


def _run(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, start: Tensor, decays: Tensor, states: Tensor) -> None:
    """Fills ``decays``, exp(dt A), and the states after every step, [rows, steps, N, D] both."""
    _fill_decays(dt[:, :, None], A, decays)
    torch.mul((dt * x)[:, :, None], B[..., None], out=states)
    for decay, state in zip(decays.unbind(1), states.unbind(1), strict=True):
        start = state.addcmul_(decay, start)


def _run_back(above: Tensor, C: Tensor, grad_last: Tensor, decays: Tensor, grad_states: Tensor) -> None:
    """Fills the gradients of the states [rows, steps, N, D], through outputs (``above``, [rows, steps, D]) and through
    the state after the chunk."""
    torch.mul(above[:, :, None], C[..., None], out=grad_states)
    later = grad_states[:, -1].add_(grad_last)
    for step in range(above.shape[1] - 1, 0, -1):
        later = grad_states[:, step - 1].addcmul_(decays[:, step], later)


def _fill_decays(dt: Tensor, A: Tensor, out: Tensor) -> None:
    """exp(dt A), shaped as dt [..., 1, D] and A [N, D] together."""
    torch.mul(dt, A * math.log2(math.e), out=out).exp2_()


def _blocks(x: Tensor, A: Tensor, arrays: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """Rows of x [rows, steps, D], with memory for as many arrays of their states."""
    rows, steps, _ = x.shape
    budget = BLOCK_BYTES if x.device.type == "cpu" else DEVICE_BLOCK_BYTES
    block = min(rows, max(1, budget // (steps * A.numel() * A.element_size())))
    memory = [x.new_empty(block, steps, *A.shape) for _ in range(arrays)]
    for first in range(0, rows, block):
        yield slice(first, first + block), [each[: rows - first] for each in memory]


def _sum_over_state(weights: Tensor, states: Tensor) -> Tensor:
    """[rows, steps, N] with [rows, steps, N, D] -> [rows, steps, D]."""
    summed = torch.bmm(weights.reshape(-1, 1, weights.shape[2]), states.flatten(0, 1))
    return summed.view(*states.shape[:2], -1)


def _sum_over_channels(weights: Tensor, states: Tensor) -> Tensor:
    """[rows, steps, D] with [rows, steps, N, D] -> [rows, steps, N]. The vectors stand on the left because on a CPU a
    batch of products with vectors on the right is ten times as slow."""
    summed = torch.bmm(weights.reshape(-1, 1, weights.shape[2]), states.flatten(0, 1).transpose(1, 2))
    return summed.view(*states.shape[:2], -1)
