"""A batch that is read in several goes is the batch at once, draws included; and losses weighted by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from objective_support import OBJECTIVES, draws, ragged_batch, rng, scrambled
from support import random_batch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from foresee.core.batch import Batch
from foresee.objectives.teacher_forcing import answer_loss
from foresee.training.distributed import Model, World
from foresee.training.examples import part_share, split_batch
from foresee.training.losses import term_shares, weigh


class Recorded(TorchFunctionMode):
    """Keeps what is drawn, or gives it again, goes put together as one batch."""

    def __init__(self, goes: list[list[Tensor]], again: bool = False) -> None:
        super().__init__()
        self.goes, self.again = goes, again

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (kwargs or {}).get("generator") is None:
            return out
        if not self.again:
            self.goes[-1].append(out)
            return out
        wide = out.dim() - 1 if out.shape[:1] == (3,) else 0  # future-insertion draws three numbers a row
        return torch.cat([go.pop(0) for go in self.goes if go], wide)


def gradients_in(goes: int, objective: str, batch: Batch, mode: Recorded) -> list[Tensor]:
    made: Any = scrambled(objective)
    loss: Callable[..., Any] = made.loss

    def recorded(part: Batch, generator: torch.Generator) -> Any:
        if not mode.again:
            mode.goes.append([])
        with mode:
            return loss(part, generator)

    made.loss = recorded
    model, total, by_token = Model(made, "cpu", World()), torch.zeros(()), list[Tensor]()
    pieces, generator = split_batch(batch, goes), rng()
    for piece, shares in zip(pieces, term_shares(model, pieces, generator), strict=True):
        out = weigh(model.loss(piece, generator), part_share(piece, batch), shares)
        torch.testing.assert_close(torch.stack(list(out.parts.values())).sum(), out.total)
        torch.autograd.backward(out.total)
        total, by_token = total + out.total.detach(), [*by_token, out.per_token]
    # mgdm's loss of a token hangs on how many are masked where it is read.
    losses = [] if "mgdm" in objective else [torch.cat(by_token)]
    return [total, *losses, *(each.grad for each in made.parameters())]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_in_goes_is_the_batch_at_once(objective: str, ragged: bool) -> None:
    if ragged and draws(objective):
        pytest.skip("draws hang on columns")
    if objective in ("masked-diffusion", "token-masking:replace=random"):
        pytest.skip("draws over the batch as a whole, and averages over answer tokens")
    batch, goes = ragged_batch() if ragged else random_batch(12), list[list[Tensor]]()
    parts = gradients_in(3, objective, batch, Recorded(goes))
    for part, whole in zip(parts, gradients_in(1, objective, batch, Recorded(goes, again=True)), strict=True):
        # Gradients reach 25, and float32 rounds their sums by that.
        torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-5 * max(1.0, float(whole.abs().max()) / 5))


@pytest.mark.parametrize("padding", [0, 7])
def test_weights_by_token_multiply_losses_in_the_mean(padding: int) -> None:
    batch = ragged_batch(padding)
    logits = torch.randn(len(batch), batch.layout.width, 13, generator=rng())
    weights = torch.rand(batch.layout.width, generator=rng("weights"))
    plain, ones = answer_loss(logits, batch, "part"), answer_loss(logits, batch, "part", weights=torch.ones(1))
    out = answer_loss(logits, batch, "part", weights=weights)
    assert torch.equal(ones.total, plain.total)
    assert torch.equal(out.per_token, plain.per_token)
    expected = (plain.per_token[:, batch.layout.first : batch.layout.last] * weights).sum() / batch.answer_len.sum()
    torch.testing.assert_close(out.parts["part"], expected)
