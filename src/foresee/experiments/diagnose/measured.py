"""What a trained run says of each token of the held-out responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.seeds import torch_stream
from foresee.metrics.accuracy import right_answers
from foresee.metrics.measure import evaluation_mode
from foresee.metrics.passes import predict_answers, score_answers, split_chunks
from foresee.objectives.base import Objective
from foresee.objectives.teacherless import Teacherless
from foresee.tasks.base import Task
from foresee.training.optimizer import autocast
from foresee.training.run import Run

CHUNK = 512

Kind = Literal["forced", "hidden", "none"]


@dataclass(frozen=True)
class Measured:
    """Of one run, on E held-out examples whose longest response has A tokens; columns are in the task's order.

    ``kind`` says what ``loss`` [E, A] (nats, 0 beyond a response) is: ``forced``, minus the log-probability of each
    token given the true ones before it in the objective's own order; ``hidden``, given the prompt alone; ``none``,
    nothing (zeros). Of both real kinds the sum over a response is minus the log-probability of one normalised model for
    the whole response.
    """

    kind: Kind
    loss: Tensor
    right: Tensor
    """[E, A] bool: the true token is the likeliest, under the same conditions."""
    free: Tensor
    """[E, A] bool: what was written freely (greedily) has the true token at this place."""
    exact: Tensor
    """[E] bool: the response that was written is right."""

    @property
    def nll(self) -> Tensor:
        """[E] nats of whole responses."""
        return self.loss.double().sum(1)


@dataclass(frozen=True)
class Family:
    """The runs of one objective, in the order of seeds."""

    objective: str
    runs: tuple[Run, ...]
    measured: tuple[Measured, ...]

    @property
    def kind(self) -> Kind:
        return self.measured[0].kind

    @property
    def loss(self) -> Tensor:
        """[S, E, A]."""
        return torch.stack([each.loss for each in self.measured])

    @property
    def nll(self) -> Tensor:
        """[S, E]."""
        return torch.stack([each.nll for each in self.measured])


def measure_run(run: Run, batch: Batch, folder: Path) -> Measured:
    """Measures a run on held-out examples, or reads what ``folder`` keeps of it."""
    path = folder / f"{run.spec.digest}.safetensors"
    if path.exists():
        tensors, note = files.read_tensors(path)
        if set(tensors) != {"loss", "right", "free", "exact"} or note.get("kind") not in ("forced", "hidden", "none"):
            raise files.damaged(path, "it does not hold a run's measurements")
        if tensors["loss"].shape == batch.answer_mask().shape:
            return Measured(note["kind"], **tensors)
    objective = run.objective.to(run.spec.device)
    with autocast(run.spec):
        found = measure(objective, run.task, batch.to(run.spec.device))
    tensors = {"loss": found.loss, "right": found.right, "free": found.free, "exact": found.exact}
    files.write_tensors(path, tensors, {"kind": found.kind})
    return found


def measure(objective: Objective, task: Task, batch: Batch) -> Measured:
    """Measures an objective on a batch that lies on its device; the result is on the CPU."""
    with evaluation_mode(objective):
        kind, loss, right = _losses(objective, batch)
        wrote = predict_answers(objective, batch, CHUNK, task)
        exact = right_answers(task, batch, wrote)
    answers, mask = batch.padded_answers(), batch.answer_mask()
    width = answers.shape[1]
    wrote = torch.nn.functional.pad(wrote[:, :width], (0, max(0, width - wrote.shape[1])), value=-1)
    free = (wrote == answers) & mask
    return Measured(kind, loss.float().cpu(), right.cpu(), free.cpu(), exact.cpu())


def _losses(objective: Objective, batch: Batch) -> tuple[Kind, Tensor, Tensor]:
    if isinstance(objective, Teacherless) and not objective.hybrid:
        return "hidden", *_one_pass(objective, batch)
    scores = score_answers(objective, batch, CHUNK)
    if scores is None:
        shape, device = batch.answer_mask().shape, batch.tokens.device
        return "none", torch.zeros(shape, device=device), torch.zeros(shape, dtype=torch.bool, device=device)
    return "forced", scores.loss * scores.mask, scores.right & scores.mask


def _one_pass(objective: Teacherless, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss and correctness of a model that predicts every token from the prompt alone. It draws nothing at random."""
    mask = batch.answer_mask()
    loss = torch.zeros(mask.shape, device=mask.device)
    right = torch.zeros_like(mask)
    rng = torch_stream("diagnose")
    for index, part in batch.uniform_parts():
        losses, rights = [], []
        for piece in split_chunks(part, CHUNK):
            losses.append(objective.loss(piece, rng).per_token[:, piece.layout.first : piece.layout.last])
            rights.append(objective.generate(piece.prompts, piece.layout.width) == piece.answers)
        width = part.layout.width
        loss[index, :width] = torch.cat(losses).to(loss.dtype)
        right[index, :width] = torch.cat(rights)
    return loss, right


def families(runs: Sequence[Run], batch: Batch, folder: Path) -> dict[str, Family]:
    """Runs by objective, measured."""
    names = dict.fromkeys(run.spec.objective for run in runs)
    found = {}
    for name in names:
        own = sorted((run for run in runs if run.spec.objective == name), key=lambda run: run.spec.seed)
        found[name] = Family(name, tuple(own), tuple(measure_run(run, batch, folder) for run in own))
    return found
