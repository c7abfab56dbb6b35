"""One update of the weights: what the training loop repeats, and what ``foresee bench`` times."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from foresee.batch import Batch
from foresee.data import TrainingData
from foresee.objectives.base import LossOut, Objective
from foresee.optimiser import learning_rate
from foresee.run_spec import RunSpec
from foresee.seeds import torch_stream
from foresee.tasks.base import Task


def autocast(spec: RunSpec) -> AbstractContextManager[Any]:
    """bfloat16 matrix products where the spec says so."""
    return torch.autocast(spec.device, torch.bfloat16) if spec.precision == "bf16" else nullcontext()


def batch_of(data: TrainingData, task: Task, spec: RunSpec, step: int) -> Batch:
    """The batch that update ``step`` (from 0) learns from, on the run's device."""
    return data.batch_at(step, spec.batch).sharing(task.group, task.shared_prefix).to(spec.device)


def update(objective: Objective, optimiser: torch.optim.Optimizer, batch: Batch, spec: RunSpec, step: int) -> LossOut:
    """Loss, backward pass, clipping, and AdamW at this step's learning rate. Gives the loss before the update.

    A pure function of weights, optimiser state, batch, spec and step. It never waits for the device.
    """
    with autocast(spec):
        out = objective.loss(batch, torch_stream("objective", spec.objective, spec.seed, step))
    optimiser.zero_grad()
    out.total.backward()  # type: ignore[no-untyped-call]
    if spec.clip:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, spec.clip, foreach=True)
    rate = learning_rate(spec, step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return out
