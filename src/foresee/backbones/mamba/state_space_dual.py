"""The recurrence of Mamba-2 by matrix products (Dao & Gu 2024, "Transformers are SSMs", sections 6 and 7).

A head keeps a state of P x N numbers, which each position lets decay, adds to, and reads::

    state[t] = exp(dt[t] A) state[t-1] + dt[t] x[t] B[t]'        y[t] = state[t] C[t] + D x[t]

Unrolled, ``y = M x`` with ``M[t, s] = (C[t]'B[s]) exp(A dt[s+1] + ... + A dt[t]) dt[s]`` for s <= t, and D added to the
diagonal. That is computed as it stands within chunks of the sequence; between them only states are handed on. A
sequence that fits one chunk is the quadratic form alone.

Shapes of chunked tensors: x [B, n, Q, H, P] for n chunks of Q positions; dt and log_decay, which is dt A, [B, n, Q, H];
B and C [B, n, Q, G, N]; states [B, n, H, P, N].
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

CHUNK = 64
"""Positions in a chunk, at most. Measured forward and backward at 512 positions, 12 heads of 64 and state 64 on a CPU:
quickest of 32 to 128 in float32, by a few percent before 32, and level with 32 and 128 in bfloat16."""


def state_space_dual(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs of every position, and the state after the last.

    x [B, T, H, P]; dt [B, T, H], not negative; A [H], negative; B and C [B, T, G, N], where each of the G groups serves
    H / G consecutive heads; D [H]; initial [B, H, P, N], zeros by default -> (y [B, T, H, P] in x's type or autocast's,
    final state [B, H, P, N]). Decays are computed and states handed on in float32 (float64) whatever the type of the
    matrix products. Not differentiable twice.
    """
    x, dt, A, B, C, D = _prepared(x, dt, A, B, C, D)
    length = x.shape[1]
    x, dt, B, C = _in_chunks(x, dt, B, C)
    log_decay = dt * A
    y = _within_chunks(x, dt, log_decay, B, C, D)
    states = _states(x, dt, log_decay, B, initial)
    if initial is not None or x.shape[1] > 1:
        y = y + _read(states[:-1], log_decay, C)
    return y.flatten(1, 2)[:, :length], _by_head(states[-1])


def state_space_outputs(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The outputs of ``state_space_dual`` from an empty state. What fits one chunk then needs no states at all."""
    ready = x, dt, A, B, C, D = _prepared(x, dt, A, B, C, D)
    if x.shape[1] > CHUNK:
        return state_space_dual(*ready)[0]
    x, dt, B, C = _in_chunks(x, dt, B, C)
    return _within_chunks(x, dt, dt * A, B, C, D).flatten(1, 2)


def state_space_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One position: x [B, H, P], dt [B, H], A and D [H], B and C [B, G, N] -> (y [B, H, P] in x's type, new state).

    The state [B, H, P, N] is updated in place.
    """
    rows, heads, size = x.shape
    groups, high = B.shape[1], state.dtype
    by_group = state.view(rows, groups, heads // groups * size, -1)
    dt = dt.to(high)
    state *= torch.exp(dt * A.to(high))[..., None, None]
    by_group.addcmul_((x * dt[..., None]).view(rows, groups, -1, 1), B.to(high)[:, :, None])
    read = (by_group @ C.to(high)[..., None]).view(rows, heads, size)
    return (read + x * D.to(high)[:, None]).to(x.dtype), state


def _prepared(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The operands of matrix products in x's type, or autocast's where it applies; the others in float32 or float64."""
    low, device = x.dtype, x.device.type
    if torch.is_autocast_enabled(device) and low != torch.float64:
        low = torch.get_autocast_dtype(device)
    high = torch.promote_types(low, torch.float32)
    return x.to(low), dt.to(high), A.to(high), B.to(low), C.to(low), D.to(high)


# Chunks -------------------------------------------------------------------------------------------------------------


def _in_chunks(x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, ...]:
    """[B, T, ...] -> [B, n, Q, ...]. Chunks are of one length, so fewer than n positions of padding are needed."""
    length = x.shape[1]
    chunks = math.ceil(length / CHUNK)
    padding = -length % chunks
    if padding:
        # Where dt = 0 a position neither decays the state nor adds to it.
        x, B, C = (functional.pad(value, (0, 0, 0, 0, 0, padding)) for value in (x, B, C))
        dt = functional.pad(dt, (0, 0, 0, padding))
    return tuple(torch.unflatten(value, 1, (chunks, -1)) for value in (x, dt, B, C))


def _swap(value: Tensor) -> Tensor:
    """Positions before heads (or groups) to behind them, or back."""
    return value.transpose(2, 3)


def _states(x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor, initial: Tensor | None) -> list[Tensor]:
    """The state before every chunk and after the last: n + 1 of [B, G, N, H / G, P], the order in which products of all
    heads of a group at once leave it, and in which they and their gradients need no transposed copy."""
    rows, chunks, _, heads, size = x.shape
    groups, state_size = B.shape[3:]
    total = log_decay.cumsum(2)
    share = dt * (total[:, :, -1:] - total).exp()  # what is left, at the end of the chunk, of an input
    whole = total[:, :, -1].exp().view(rows, chunks, groups, 1, -1, 1)
    inputs = (x * share.to(x.dtype)[..., None]).view(rows, chunks, -1, groups, heads // groups * size)
    added = (_swap(B).mT @ _swap(inputs)).view(rows, chunks, groups, state_size, -1, size).to(dt.dtype)
    if initial is None:
        states = [added.new_zeros(rows, groups, state_size, heads // groups, size)]
    else:
        states = [initial.to(dt.dtype).reshape(rows, groups, -1, size, state_size).permute(0, 1, 4, 2, 3)]
    # Apart at once: the gradient of taking one chunk would be as large as that of all.
    for of_chunk, decay in zip(added.unbind(1), whole.unbind(1), strict=True):
        states.append(torch.addcmul(of_chunk, decay, states[-1]))
    return states


def _by_head(state: Tensor) -> Tensor:
    """[B, G, N, H / G, P] -> [B, H, P, N]."""
    return state.permute(0, 1, 3, 4, 2).flatten(1, 2).contiguous()


def _read(entering: list[Tensor], log_decay: Tensor, C: Tensor) -> Tensor:
    """What the positions of every chunk read of the state that entered it, one of n: [B, n, Q, H, P]."""
    joined = torch.stack(entering, 1).to(C.dtype).flatten(-2)
    read = _swap(_swap(C) @ joined)
    left = log_decay.cumsum(2).exp().to(C.dtype)[..., None]
    return read.reshape(*left.shape[:-1], -1) * left


def _within_chunks(x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """[B, n, Q, H, P]: the quadratic form of every chunk by itself."""
    out: Tensor = _QuadraticForm.apply(x, dt, log_decay, B, C, D)  # type: ignore[no-untyped-call]  # torch leaves apply without types
    return out


class _Mixing:
    """The matrix M [B, n, H, Q, Q] of every chunk and head, and the factors it is made of."""

    def __init__(self, dt: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, D: Tensor) -> None:
        heads, groups = dt.shape[3], B.shape[3]
        total = _swap(log_decay.cumsum(2)).contiguous()  # or every use in a [Q, Q] matrix would gather
        # Above the diagonal, where scores are zero, sums would be positive and could overflow the exponential.
        self.decays = (total[..., :, None] - total[..., None, :]).clamp_(max=0).exp_()
        self.dt = _swap(dt).contiguous()[..., None, :]  # [B, n, H, 1, Q]
        scores = (_swap(C) @ _swap(B).mT).to(dt.dtype).tril_()
        self.scores = scores if groups == 1 else scores.repeat_interleave(heads // groups, 2)
        matrix = self.decays * self.scores * self.dt
        matrix.diagonal(dim1=-2, dim2=-1).add_(D[:, None])
        self.matrix = matrix.to(B.dtype)


class _QuadraticForm(torch.autograd.Function):
    """Keeps its inputs alone and builds M again for the backward pass, where D's gradient comes from M's diagonal.

    Measured on a CPU at 31 positions it takes a fifth less time than automatic differentiation of the same products in
    bfloat16, and keeps none of the matrices [Q, Q] of every head, of which that keeps several."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dt: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        ctx.save_for_backward(x, dt, log_decay, B, C, D)
        return _swap(_Mixing(dt, log_decay, B, C, D).matrix @ _swap(x)).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x, dt, log_decay, B, C, D = ctx.saved_tensors
        mixing, groups = _Mixing(dt, log_decay, B, C, D), B.shape[3]
        above = _swap(gradients[0]).contiguous()
        grad_x = _swap(mixing.matrix.mT @ above)
        grad = (above @ _swap(x).mT).to(dt.dtype)  # of M, and then, factor by factor, of what it is made of
        grad_D = grad.diagonal(dim1=-2, dim2=-1).sum((0, 1, 3))
        grad *= mixing.decays
        grad_scores = torch.unflatten(grad * mixing.dt, 2, (groups, -1)).sum(3).tril_().to(B.dtype)
        grad_B, grad_C = _swap(grad_scores.mT @ _swap(C)), _swap(grad_scores @ _swap(B))
        grad *= mixing.scores
        grad_dt = grad.sum(-2)
        # A decay lies between two positions, so not on the diagonal. Sums over rows and columns of one matrix cancel;
        # the equal sums over outputs and inputs, which bfloat16 rounds apart, would not.
        by_column = (grad_dt - grad.diagonal(dim1=-2, dim2=-1)) * mixing.dt[..., 0, :]
        grad.diagonal(dim1=-2, dim2=-1).zero_()
        grad_total = (grad * mixing.dt).sum(-1) - by_column
        grad_log_decay = grad_total.flip(-1).cumsum(-1).flip(-1)
        return grad_x, _swap(grad_dt), _swap(grad_log_decay), grad_B, grad_C, grad_D
