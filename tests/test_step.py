"""One update: parts that are read one after the other add up to the whole batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from objective_support import OBJECTIVES, draws, ragged_batch, rng, scrambled
from support import random_batch
from tiny import TASK, tiny
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import stream
from foresee.experiments.machine import estimate_memory
from foresee.objectives.teacher_forcing import answer_loss
from foresee.training.checkpoint import saved_weights
from foresee.training.distributed import Model, World
from foresee.training.examples import part_share, require_whole_parts, split_batch, training_data
from foresee.training.loop import train, train_steps
from foresee.training.losses import term_shares, weigh
from foresee.training.optimizer import adamw, learning_rate, restore, state_tensors
from foresee.training.settings import Settings
from foresee.training.step import Training

PAIRED = TASK.replace("goals=one", "goals=all")


@dataclass
class Held:
    """One batch, as training data."""

    batch: Batch

    def batch_at(self, step: int, size: int) -> Batch:
        return self.batch


def updated(spec: Settings, batch: Batch) -> tuple[dict[str, torch.Tensor], list[float]]:
    task = spec.build_task()
    objective = spec.build_objective(task)
    training = Training(spec, task, Held(batch), Model(objective, "cpu", World()))
    train_steps(training, 1)
    gradients = {name: value.grad for name, value in objective.named_parameters() if value.grad is not None}
    means = training.losses.means(1)
    assert sum(means[name] for name in means if name != "loss") == pytest.approx(means["loss"], rel=1e-5)
    return gradients, [means["loss"], *training.losses.by_position()]


@pytest.mark.parametrize(
    ("objective", "task", "ragged"),
    [
        ("next-token", TASK, False),
        ("next-token", PAIRED, True),
        ("teacherless", PAIRED, False),
        ("teacherless", TASK, True),
    ],
)
def test_parts_add_up_to_the_batch(objective: str, task: str, ragged: bool) -> None:
    built = tiny(task=task).build_task()
    batch = built.sample(12, stream("parts")).sharing(built.group, built.shared_prefix)
    if ragged:
        # The second half of the rows lacks its last answer token.
        cut = torch.arange(12) // 6
        batch = Batch.of(batch.tokens, batch.prompt_len, batch.answer_len - cut).sharing(built.group, 0)
    outcomes = [
        updated(tiny(objective, task, batch=12, accumulate=parts, precision="float32"), batch) for parts in (1, 3)
    ]
    assert outcomes[1][1] == pytest.approx(outcomes[0][1], rel=1e-5)
    assert outcomes[0][0].keys() == outcomes[1][0].keys()
    for name, gradient in outcomes[0][0].items():
        torch.testing.assert_close(outcomes[1][0][name], gradient, msg=name, atol=1e-6, rtol=1e-4)


def test_parts_keep_what_their_rows_share_and_neither_they_nor_processes_may_split_groups(tmp_path: Path) -> None:
    built = tiny(task=PAIRED).build_task()
    parts = split_batch(built.sample(12, stream("parts")).sharing(2, built.shared_prefix), 3)
    assert [(len(part), part.layout.group, part.layout.shared) for part in parts] == [(4, 2, built.shared_prefix)] * 3
    with pytest.raises(RequestError, match="in accumulate=2 parts would split groups of 2 rows"):
        train(tiny(task=PAIRED, batch=6, accumulate=2), tmp_path)
    with pytest.raises(RequestError, match="batch=6 in accumulate=2 parts would split groups of 2 rows"):
        estimate_memory(tiny(task=PAIRED, batch=6, accumulate=2))
    spec = tiny(task=PAIRED, batch=6, processes=2)
    with pytest.raises(RequestError, match="in accumulate=1 parts on processes=2 would split groups of 2 rows"):
        require_whole_parts(spec, built, training_data(spec, built))


# Learning rates by formula, what weight decay acts on, and the optimiser's state put away and taken up again


def test_warm_up_is_linear_and_then_constant_or_a_cosine_that_falls_to_a_tenth_at_the_last_step() -> None:
    spec = tiny(steps=20, warmup=4, lr=0.008)
    assert [learning_rate(spec, step) for step in range(6)] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.008, 0.008])
    assert learning_rate(spec, 19) == 0.008
    assert learning_rate(tiny(warmup=0, lr=0.5), 0) == 0.5
    spec = tiny(steps=25, warmup=4, lr=1.0, schedule="cosine")
    rates = [learning_rate(spec, step) for step in range(25)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert (rates[14], rates[24]) == pytest.approx((0.55, 0.1))
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * (step - 4) / 20)) / 2 for step in range(4, 25)]
    assert rates[4:] == pytest.approx(expected)
    for steps in (1, 4, 5):  # no room after the warm-up
        spec = tiny(steps=steps, warmup=4, lr=1.0, schedule="cosine")
        assert [learning_rate(spec, step) for step in range(steps)] == pytest.approx([0.25, 0.5, 0.75, 1, 1][:steps])


class _Pair(nn.Module):
    """Two matrices, of which one never gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.used = nn.Parameter(torch.randn(3, 3, generator=generator))
        self.idle = nn.Parameter(torch.randn(3, 3, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.used).square().sum()


def _steps(model: _Pair, optimiser: torch.optim.Optimizer, inputs: torch.Tensor) -> None:
    for x in inputs:
        optimiser.zero_grad()
        model(x).backward()
        optimiser.step()


def test_state_put_away_and_taken_up_again_changes_no_bit() -> None:
    spec = tiny(lr=0.05, beta2=0.75)
    inputs = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(2))
    straight, first, second = _Pair(), _Pair(), _Pair()
    _steps(straight, adamw(straight, spec), inputs)
    optimiser = adamw(first, spec)
    _steps(first, optimiser, inputs[:1])
    gradient: Any = first.used.grad
    torch.testing.assert_close(optimiser.state[first.used]["exp_avg_sq"], 0.25 * gradient.square())
    _steps(first, optimiser, inputs[1:3])
    saved = {name: tensor.detach().clone() for name, tensor in state_tensors(first, optimiser).items()}
    weights = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert saved.keys() == {f"optimiser.{name}.used" for name in ("step", "exp_avg", "exp_avg_sq")}
    resumed = adamw(second, spec)
    second.load_state_dict(weights)
    restore(second, resumed, saved)
    kept = {name: tensor.clone() for name, tensor in saved.items()}
    _steps(second, resumed, inputs[3:])
    assert all(torch.equal(saved[name], kept[name]) for name in kept)
    assert torch.equal(second.used, straight.used)
    assert torch.equal(second.idle, straight.idle)
    assert int(resumed.state[second.used]["step"]) == 6


def test_what_is_frozen_is_not_trained() -> None:
    spec = tiny(lr=0.1)
    objective = spec.build_objective(spec.build_task())
    objective.backbone.requires_grad_(False)
    *_, (name, kept) = objective.named_parameters()
    kept.requires_grad_(True)
    trained = [parameter for group in adamw(objective, spec).param_groups for parameter in group["params"]]
    assert [id(parameter) for parameter in trained] == [id(kept)]
    assert list(saved_weights(objective)) == [name]


# A batch that is read in several goes is the batch at once, draws included; and losses weighted by token


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
    if objective in ("masked-diffusion", "masked-diffusion:weighting=elbo", "token-masking:replace=random"):
        pytest.skip("draws over the batch as a whole, and averages over answer tokens")
    batch, goes = ragged_batch() if ragged else random_batch(12), list[list[Tensor]]()
    parts = gradients_in(3, objective, batch, Recorded(goes))
    for part, whole in zip(parts, gradients_in(1, objective, batch, Recorded(goes, again=True)), strict=True):
        # Gradients reach 25, and float32 rounds their sums by that.
        torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-5 * max(1.0, float(whole.abs().max()) / 5))


def test_a_batch_on_two_processes_is_the_batch_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means over terms that processes have in unlike numbers: of rolls, which are no answer tokens."""
    made, batch = scrambled("next-latent"), ragged_batch()
    halves, total = split_batch(batch, 2), torch.zeros(())
    for rank, half in enumerate(halves):
        others = iter(made.count_terms(halves[1 - rank], rng()).values())
        monkeypatch.setattr(World, "all_reduce", lambda self, value, others=others: value + next(others))
        model: Any = SimpleNamespace(objective=made, world=World(rank, 2))
        (shares,) = term_shares(model, [half], rng())
        total = total + weigh(made.loss(half, rng()), part_share(half, batch), shares).total
    torch.testing.assert_close(total, made.loss(batch, rng()).total)


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
