"""Learning rates by formula, what weight decay acts on, and the optimiser's state put away and taken up again."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from tiny import tiny
from torch import nn

from foresee.training.checkpoint import saved_weights
from foresee.training.optimizer import adamw, learning_rate, restore, state_tensors


def test_warm_up_is_linear_and_then_constant() -> None:
    spec = tiny(steps=20, warmup=4, lr=0.008)
    assert [learning_rate(spec, step) for step in range(6)] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.008, 0.008])
    assert learning_rate(spec, 19) == 0.008
    assert learning_rate(tiny(warmup=0, lr=0.5), 0) == 0.5


def test_cosine_falls_to_a_tenth_at_the_last_step() -> None:
    spec = tiny(steps=25, warmup=4, lr=1.0, schedule="cosine")
    rates = [learning_rate(spec, step) for step in range(25)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[14] == pytest.approx(0.55)
    assert rates[24] == pytest.approx(0.1)
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * (step - 4) / 20)) / 2 for step in range(4, 25)]
    assert rates[4:] == pytest.approx(expected)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_cosine_with_no_room_after_the_warm_up(steps: int) -> None:
    spec = tiny(steps=steps, warmup=4, lr=1.0, schedule="cosine")
    assert [learning_rate(spec, step) for step in range(steps)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0][:steps])


def test_weight_decay_acts_on_matrix_products_alone() -> None:
    spec = tiny(weight_decay=0.5, lr=0.1, backbone="transformer:layers=1,width=32,heads=2,tied=false")
    objective = spec.build_objective(spec.build_task())
    before = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    optimiser = adamw(objective, spec)
    for parameter in objective.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()

    changed = set()
    for name, parameter in objective.named_parameters():
        if not torch.equal(parameter, before[name]):
            torch.testing.assert_close(parameter.detach(), before[name] * (1 - 0.1 * 0.5))
            changed.add(name)
    block = "backbone.blocks.0."
    weights = ("attention_in", "attention_out", "mlp_in", "mlp_out")
    assert changed == {f"{block}{name}.weight" for name in weights} | {"backbone.head"}


def test_beta2_reaches_the_second_moment() -> None:
    model = _Pair()
    optimiser = adamw(model, tiny(beta2=0.75))
    model.used.grad = torch.full_like(model.used, 2.0)
    optimiser.step()
    torch.testing.assert_close(optimiser.state[model.used]["exp_avg_sq"], torch.full((3, 3), 0.25 * 4.0))


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
    spec = tiny(lr=0.05)
    inputs = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(2))
    straight, first, second = _Pair(), _Pair(), _Pair()
    _steps(straight, adamw(straight, spec), inputs)

    optimiser = adamw(first, spec)
    _steps(first, optimiser, inputs[:3])
    saved = {name: tensor.detach().clone() for name, tensor in state_tensors(first, optimiser).items()}
    weights = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert saved.keys() == {
        "optimiser.step.used", "optimiser.exp_avg.used", "optimiser.exp_avg_sq.used",
    }  # fmt: skip
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
    frozen = dict(objective.named_parameters())
    kept, (name, _) = frozen.popitem(), next(iter(frozen.items()))
    kept[1].requires_grad_(True)
    optimiser = adamw(objective, spec)
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    assert [id(parameter) for parameter in trained] == [id(kept[1])]
    assert list(saved_weights(objective)) == [kept[0]]
    assert name not in saved_weights(objective)
