"""What trained runs say of each token of the held-out responses, and means of that with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from scipy.special import stdtrit
from torch import Tensor

from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.seeds import torch_stream
from foresee.metrics.accuracy import compare_tokens, right_answers
from foresee.metrics.intervals import Z95
from foresee.metrics.measure import evaluation_mode
from foresee.metrics.passes import predict_answers, score_answers, split_chunks
from foresee.objectives.base import Objective
from foresee.objectives.teacherless import Teacherless
from foresee.tasks.base import Task
from foresee.training.optimizer import autocast
from foresee.training.run import Run

CHUNK = 512

Kind = Literal["forced", "hidden", "none"]
Estimate = dict[str, Any]
"""A mean with its interval (``ratio``), or a line of a table with several of them by name."""


@dataclass(frozen=True)
class TokenScores:
    """Of one run, on E held-out examples whose longest response has A tokens; columns are in the task's order.

    ``kind`` says what ``loss`` [E, A] (nats, 0 beyond a response) is: ``forced``, minus the log-probability of each
    token given the true ones before it in the objective's own order; ``hidden``, given the prompt alone; ``none``,
    nothing (zeros). Of both real kinds the sum over a response is minus the log-probability of one normalised model for
    the whole response. ``right`` [E, A] bool: the true token is the likeliest, under the same conditions; ``free``
    [E, A] bool: what was written freely (greedily) has the true token there; ``exact`` [E] bool: it is right. ``stops``
    [E, A]: the part of ``loss`` that says where a response ends, where it is forced and a symbol closes responses.
    """

    kind: Kind
    loss: Tensor
    right: Tensor
    free: Tensor
    exact: Tensor
    stops: Tensor | None = None

    @property
    def nll(self) -> Tensor:
        """[E] nats of whole responses."""
        return self.loss.double().sum(1)


@dataclass(frozen=True)
class Family:
    """The runs of one objective, in the order of seeds, and the scores of each."""

    objective: str
    runs: tuple[Run, ...]
    scores: tuple[TokenScores, ...]

    @property
    def kind(self) -> Kind:
        """What its losses are."""
        return self.scores[0].kind

    def stack(self, name: str) -> Tensor:
        """A field of the scores, seeds first: [S, E, A], or [S, E]."""
        return torch.stack([getattr(each, name) for each in self.scores])


def measure_families(runs: Sequence[Run], batch: Batch, folder: Path) -> dict[str, Family]:
    """Runs by objective, measured on a batch, or read from what ``folder`` keeps of that."""
    families = {}
    for name in dict.fromkeys(run.spec.objective for run in runs):
        own = sorted((run for run in runs if run.spec.objective == name), key=lambda run: run.spec.seed)
        families[name] = Family(name, tuple(own), tuple(measure_run(run, batch, folder) for run in own))
    return families


def measure_run(run: Run, batch: Batch, folder: Path) -> TokenScores:
    """Measures a run on held-out examples, or reads what ``folder`` keeps of it."""
    path = folder / f"{run.spec.digest}.safetensors"
    if path.exists():
        tensors, note = files.read_tensors(path)
        if set(tensors) - {"stops"} != {"loss", "right", "free", "exact"} or note.get("kind") not in get_args(Kind):
            raise files.damaged(path, "it does not hold a run's measurements")
        known = run.task.end is None or note["kind"] != "forced" or "stops" in tensors  # as older versions did not
        if known and tensors["loss"].shape == batch.answer_mask().shape:
            return TokenScores(note["kind"], **tensors)
    objective = run.objective.to(run.spec.device)
    with autocast(run.spec):
        found = measure(objective, run.task, batch.to(run.spec.device))
    tensors = {"loss": found.loss, "right": found.right, "free": found.free, "exact": found.exact}
    tensors |= {} if found.stops is None else {"stops": found.stops}
    files.write_tensors(path, tensors, {"kind": found.kind})
    return found


def measure(objective: Objective, task: Task, batch: Batch) -> TokenScores:
    """Measures an objective on a batch that lies on its device; the result is on the CPU."""
    kind: Kind
    stops = None
    with evaluation_mode(objective):
        predictions = predict_answers(objective, batch, CHUNK, task)
        exact = right_answers(task, batch, predictions)
        free, mask = compare_tokens(predictions, batch, task.unknown)
        free &= mask
        if isinstance(objective, Teacherless) and not objective.hybrid:
            kind, loss, right = "hidden", _losses_in_one_pass(objective, batch), free
        elif (scores := score_answers(objective, batch, CHUNK, task.unknown, task.end)) is not None:
            kind, loss, right, stops = "forced", scores.loss, scores.right, scores.stops
        else:
            kind, loss, right = "none", torch.zeros(mask.shape), torch.zeros_like(mask)
    stops = None if stops is None else stops.cpu()
    return TokenScores(kind, loss.float().cpu(), right.cpu(), free.cpu(), exact.cpu(), stops)


def _losses_in_one_pass(objective: Teacherless, batch: Batch) -> Tensor:
    """[B, A] of a model that predicts every token from the prompt alone. It draws nothing at random."""
    loss = torch.zeros(batch.answer_mask().shape, device=batch.tokens.device)
    rng = torch_stream("diagnose")
    for index, part in batch.uniform_parts():
        pieces = split_chunks(part, CHUNK)
        losses = [objective.loss(each, rng).per_token[:, each.layout.first : each.layout.last] for each in pieces]
        loss[index, : part.layout.width] = torch.cat(losses).to(loss.dtype)
    return loss


def ratio(sums: Tensor, counts: Tensor, problems: Tensor) -> Estimate | None:
    """``sums.sum() / counts.sum()`` with a 95 % interval, ``low`` to ``high``; None where nothing is counted.

    ``sums`` [S, E] belong to S seeds and the same E examples; ``counts`` is [E] or [S, E]; ``problems`` [E] int64 are
    ``number_problems``. A mean over tokens has a token's loss summed over each example, and how many there are: neither
    tokens of one example nor examples of one problem are independent, so the problem is the unit. The variance adds
    two: that of problems, of values averaged over seeds (the ratio linearised), and that of seeds, where there are
    several. The first is as wide as Student's t says, the second by the normal approximation; with a few seeds that is
    rough, so ``seeds`` lists each one's value. One problem has no interval.
    """
    counts, sums = counts.double().expand(sums.shape), sums.double()
    total = float(counts.sum())
    if total == 0:
        return None
    value = float(sums.sum()) / total
    used = (counts != 0).any(0)
    numbers, cluster = torch.unique(problems[used], return_inverse=True)
    each = [float(s.sum() / c.sum()) if float(c.sum()) else value for s, c in zip(sums, counts, strict=True)]
    row: Estimate = {"value": value, "n": int(used.sum()), "problems": len(numbers), "seeds": each}
    if len(numbers) > 1:
        off = torch.bincount(cluster, weights=(sums - value * counts).mean(0)[used])
        spread = float((off**2).sum()) * len(off) / (len(off) - 1) / (total / len(sums)) ** 2
        half = float(stdtrit(len(off) - 1, 0.975)) ** 2 * spread
        if len(each) > 1:
            half += Z95**2 * float(torch.tensor(each, dtype=torch.float64).var()) / len(each)
        half = math.sqrt(half)
        row |= {"low": value - half, "high": value + half}
    return row


def share(sums: Tensor, counts: Tensor, problems: Tensor) -> Estimate | None:
    """``ratio`` of something that lies from 0 to 1; so does its interval then."""
    row = ratio(sums, counts, problems)
    if row is not None and "low" in row:
        row |= {"low": max(0.0, row["low"]), "high": min(1.0, row["high"])}
    return row
