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


def parts_of(batch: Batch, accumulate: int) -> list[Batch]:
    """The batch in ``accumulate`` parts of as many rows, groups that share a prefix kept whole."""
    rows, layout = len(batch) // accumulate, batch.layout
    parts = [batch.rows(slice(start, start + rows)) for start in range(0, len(batch), rows)]
    return [part.sharing(layout.group, layout.shared) for part in parts]


def _add_up(objective: Objective, batch: Batch, spec: RunSpec, rng: torch.Generator) -> LossOut:
    """Backward passes of the parts one after the other, so that only one part's activations are held at a time.

    Each part's mean counts by its share of the answer tokens, so the sum is the mean over the whole batch.
    """
    outs: list[LossOut] = []
    for part in parts_of(batch, spec.accumulate):
        with autocast(spec):
            out = objective.loss(part, rng)
        share = 1.0 / spec.accumulate if batch.layout.uniform else part.answer_len.sum() / batch.answer_len.sum()
        (out.total * share).backward()  # type: ignore[no-untyped-call]
        named = {name: value.detach() * share for name, value in out.parts.items()}
        outs.append(LossOut(out.total.detach() * share, named, out.per_token))
    return LossOut(
        torch.stack([out.total for out in outs]).sum(),
        {name: torch.stack([out.parts[name] for out in outs]).sum() for name in outs[0].parts},
        torch.cat([out.per_token for out in outs]),
    )


def update(objective: Objective, optimiser: torch.optim.Optimizer, batch: Batch, spec: RunSpec, step: int) -> LossOut:
    """Loss, backward pass, clipping, and AdamW at this step's learning rate. Gives the loss before the update.

    A pure function of weights, optimiser state, batch, spec and step. It never waits for the device.
    """
    optimiser.zero_grad()
    out = _add_up(objective, batch, spec, torch_stream("objective", spec.objective, spec.seed, step))
    if spec.clip:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, spec.clip, foreach=True)
    rate = learning_rate(spec, step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return out
