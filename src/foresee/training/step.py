"""One update of the weights: what the training loop repeats, and what ``foresee bench`` times."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from foresee.core.batch import Batch
from foresee.core.seeds import torch_stream
from foresee.objectives.base import LossOut, Objective
from foresee.tasks.base import Task
from foresee.training.data import TrainingData
from foresee.training.distributed import Replica, Whole
from foresee.training.optimizer import learning_rate
from foresee.training.settings import Settings


def autocast(spec: Settings) -> AbstractContextManager[Any]:
    """bfloat16 matrix products where the spec says so."""
    return torch.autocast(spec.device, torch.bfloat16) if spec.precision == "bf16" else nullcontext()


def batch_of(data: TrainingData, task: Task, spec: Settings, step: int) -> Batch:
    """The batch that update ``step`` (from 0) learns from, on the run's device."""
    return data.batch_at(step, spec.batch).sharing(task.group, task.shared_prefix).to(spec.device)


def own_batch(data: TrainingData, task: Task, spec: Settings, step: int, rank: int) -> tuple[Batch, float]:
    """The rows of ``batch_of`` that one of the run's processes learns from, and their share of its answer tokens.
    Nothing but these rows is sent to the device, and it is not asked for anything."""
    if spec.processes == 1:
        return batch_of(data, task, spec, step), 1.0
    batch = data.batch_at(step, spec.batch).sharing(task.group, task.shared_prefix)
    own = parts_of(batch, spec.processes)[rank].trimmed()
    share = 1 / spec.processes
    if not batch.layout.uniform:
        share = int(own.answer_len.sum()) / int(batch.answer_len.sum())
    return own.to(spec.device), share


def parts_of(batch: Batch, accumulate: int) -> list[Batch]:
    """The batch in ``accumulate`` parts of as many rows, groups that share a prefix kept whole."""
    rows, layout = len(batch) // accumulate, batch.layout
    parts = [batch.rows(slice(start, start + rows)) for start in range(0, len(batch), rows)]
    return [part.sharing(layout.group, layout.shared) for part in parts]


def _count_shares(objective: Objective, parts: list[Batch], rng: torch.Generator) -> dict[str, torch.Tensor]:
    """For each part of the loss that does not average over answer tokens, the share [N] of its terms that each part of
    the batch has. Leaves ``rng`` as it was."""
    state = rng.get_state()
    counts = [objective.count_terms(part, rng) for part in parts]
    rng.set_state(state)
    stacked = {name: torch.stack([each[name] for each in counts]) for name in counts[0]}
    return {name: each / each.sum().clamp_min(1) for name, each in stacked.items()}


def _add_up(replica: Replica, batch: Batch, spec: Settings, rng: torch.Generator, weight: float) -> LossOut:
    """Backward passes of the parts one after the other, so that only one part's activations are held at a time.

    Each part's mean counts by its share of what it averages over, so the sum is ``weight`` times the mean over the
    batch.
    """
    outs: list[LossOut] = []
    parts = parts_of(batch, spec.accumulate)
    term_shares = _count_shares(replica.objective, parts, rng) if spec.accumulate > 1 and spec.processes == 1 else {}
    for number, part in enumerate(parts):
        share = 1.0 / spec.accumulate if batch.layout.uniform else part.answer_len.sum() / batch.answer_len.sum()
        if spec.processes > 1:
            share = share * weight
        with replica.sharing(last=number + 1 == spec.accumulate):
            with autocast(spec):
                out = replica.loss(part, rng)
            # Gradients are averaged over processes, but theirs add up to the whole batch's.
            total, own = (
                out.total * (share * spec.processes),
                {name: each[number] for name, each in term_shares.items()},
            )
            for name, of_terms in own.items():
                total = total + out.parts[name] * (of_terms - share)
            total.backward()  # type: ignore[no-untyped-call]  # torch leaves backward without types
        named = {name: value.detach() * own.get(name, share) for name, value in out.parts.items()}
        outs.append(LossOut(total.detach() / spec.processes, named, out.per_token))
    return LossOut(
        torch.stack([out.total for out in outs]).sum(),
        {name: torch.stack([out.parts[name] for out in outs]).sum() for name in outs[0].parts},
        torch.cat([out.per_token for out in outs]),
    )


def update(
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    spec: Settings,
    step: int,
    replica: Replica | None = None,
    weight: float = 1.0,
) -> LossOut:
    """Loss, backward pass, clipping, and AdamW at this step's learning rate. Gives the loss before the update.

    A pure function of weights, optimiser state, batch, spec and step. It never waits for the device. With a ``replica``
    of a run on several processes, ``batch`` and ``weight`` are those of ``own_batch``, and the losses given are this
    process's part of the sum over all.
    """
    replica = replica or Whole(objective)
    optimiser.zero_grad()
    rank = () if replica.world.size == 1 else ("rank", replica.world.rank)
    rng = torch_stream("objective", spec.objective, spec.seed, step, *rank)
    out = _add_up(replica, batch, spec, rng, weight)
    if spec.clip:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, spec.clip, foreach=True)
    rate = learning_rate(spec, step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return out
