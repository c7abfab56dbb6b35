"""AdamW, its learning rate and its precision, as the training loop uses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from foresee.backbones.base import matrix_weights
from foresee.training.settings import Settings

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps for each parameter that has had a gradient."""


def adamw(model: nn.Module, spec: Settings) -> torch.optim.AdamW:
    """AdamW on everything that is not frozen, whose weight decay acts on weights of matrix products and Mamba's
    filters: not on biases, norms, tables that are looked up by row, or Mamba's decay rates (``matrix_weights``)."""
    weights = {id(weight) for weight in matrix_weights(model)}
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if id(parameter) in weights else spared).append(parameter)
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.lr, betas=(0.9, spec.beta2), fused=True)


def autocast(spec: Settings) -> AbstractContextManager[Any]:
    """bfloat16 matrix products where the settings say so."""
    return torch.autocast(spec.device, torch.bfloat16) if spec.precision == "bf16" else nullcontext()


def own_steps(spec: Settings, step: int) -> tuple[int, int]:
    """``step`` and how many there are, counted from where a run that continues another begins."""
    return step - spec.parent_steps, spec.steps - spec.parent_steps


def learning_rate(spec: Settings, step: int) -> float:
    """Of the update that makes ``step`` steps into ``step + 1``: linear warm-up, then constant, or a cosine to a tenth
    at the last step; anew where a run continues another. Counted in steps; counting it in examples is what made the
    original schedule constant."""
    step, steps = own_steps(spec, step)
    if step < spec.warmup:
        return spec.lr * (step + 1) / spec.warmup
    if spec.schedule == "constant":
        return spec.lr
    progress = (step - spec.warmup) / max(1, steps - 1 - spec.warmup)
    return spec.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's moments and step counts under ``optimiser.<moment>.``."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimiser.{moment}.{name}"] = value
    return tensors


def restore(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    scatter: Callable[[Tensor, Tensor], Tensor] = lambda value, like: value.to(like.device),
) -> None:
    """Gives the optimizer back what ``state_tensors`` took from it; the model's weights are for the caller to load.
    ``scatter(value, parameter)`` is the value where the parameter is."""
    for name, parameter in model.named_parameters():
        moments = {key: tensors[f"optimiser.{key}.{name}"] for key in MOMENTS if f"optimiser.{key}.{name}" in tensors}
        if moments:
            # The step count is one number, however a parameter is held.
            optimizer.state[parameter] = {
                key: (value.to(parameter.device) if key == "step" else scatter(value, parameter)).clone()
                for key, value in moments.items()
            }
