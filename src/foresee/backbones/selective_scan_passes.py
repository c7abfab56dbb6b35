"""What the selective scan does with one chunk of steps, by blocks of rows that stay in a processor's cache.

Here states are [rows, steps, N, D], and A is [N, D]; x and dt [rows, steps, D] and B and C [rows, steps, N] may be
views.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_BYTES = 6 << 20
"""What the states of one block may take on a CPU, where the backward pass has three arrays of that size at work: small
enough for the cache, large enough that one step of a block is worth several threads."""

DEVICE_BLOCK_BYTES = 1 << 30
"""The same on other devices, whose operations should be large: a bound on memory alone."""

Operands = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def chunk_forward(inputs: Operands, start: Tensor, y: Tensor) -> Tensor:
    """Fills y [rows, steps, D]; gives the states after the chunk [rows, N, D]."""
    x, dt, A, B, C, D = inputs
    last = torch.empty_like(start)
    for rows, (decays, states) in blocks(x, A, 2):
        run(x[rows], dt[rows], A, B[rows], start[rows], decays, states)
        last[rows] = states[:, -1]
        torch.addcmul(_sum_over_state(C[rows], states), x[rows], D, out=y[rows])
    return last


def chunk_backward(inputs: Operands, start: Tensor, grad_y: Tensor, grad_last: Tensor, grads: Operands) -> Tensor:
    """Fills or adds to the gradients of ``inputs``; gives that of ``start``."""
    x, dt, A, B, C, D = inputs
    grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D = grads
    grad_start = torch.empty_like(start)
    for rows, (decays, states, grad_states) in blocks(x, A, 3):
        above, x_, dt_ = grad_y[rows], x[rows], dt[rows]
        run(x_, dt_, A, B[rows], start[rows], decays, states)
        grad_C[rows] = _sum_over_channels(above, states)
        run_back(above, C[rows], grad_last[rows], decays, grad_states)
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


def run(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, start: Tensor, decays: Tensor, states: Tensor) -> None:
    """Fills ``decays``, exp(dt A), and the states after every step, [rows, steps, N, D] both."""
    fill_decays(dt[:, :, None], A, decays)
    torch.mul((dt * x)[:, :, None], B[..., None], out=states)
    for decay, state in zip(decays.unbind(1), states.unbind(1), strict=True):
        start = state.addcmul_(decay, start)


def run_back(above: Tensor, C: Tensor, grad_last: Tensor, decays: Tensor, grad_states: Tensor) -> None:
    """Fills the gradients of the states [rows, steps, N, D], through outputs (``above``, [rows, steps, D]) and through
    the state after the chunk."""
    torch.mul(above[:, :, None], C[..., None], out=grad_states)
    later = grad_states[:, -1].add_(grad_last)
    for step in range(above.shape[1] - 1, 0, -1):
        later = grad_states[:, step - 1].addcmul_(decays[:, step], later)


def fill_decays(dt: Tensor, A: Tensor, out: Tensor) -> None:
    """exp(dt A), shaped as dt [..., 1, D] and A [N, D] together."""
    torch.mul(dt, A * math.log2(math.e), out=out).exp2_()


def blocks(x: Tensor, A: Tensor, arrays: int) -> Iterator[tuple[slice, list[Tensor]]]:
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
