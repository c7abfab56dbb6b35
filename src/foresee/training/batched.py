"""Runs that differ in seed and optimizer alone, trained as one program: each weight of them is one tensor [K, ...].

A network as small as this field's leaves a GPU idle, since a step is many small kernels. Here loss and gradients of K
runs are computed together (``torch.func.vmap``), so that a kernel does the work of K; what follows, clipping, AdamW,
evaluation, saving, is each run's own. A run has the results that it would have alone, but for the order in which sums
are added up, and its folder is that of any other: whoever trains it next may do so alone. Its seconds are those of the
program.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.overrides import TorchFunctionMode

from foresee.core.batch import Batch, align
from foresee.core.errors import RequestError
from foresee.core.isolation import fresh_torch_state
from foresee.objectives.base import LossOut, Objective
from foresee.training.distributed import World
from foresee.training.examples import batch_of
from foresee.training.loop import (
    SAVE_SECONDS,
    InterruptedTrainingError,
    Started,
    build_parts,
    train_steps,
)  # fmt: skip
from foresee.training.optimizer import autocast, own_steps
from foresee.training.process import open_folder, stop_signals, use_threads
from foresee.training.progress import Progress
from foresee.training.run import Run, load
from foresee.training.settings import Settings
from foresee.training.step import RecordedStep, Training, can_record

OWN = ("seed", "lr", "warmup", "schedule", "weight_decay", "beta2", "clip")
"""Settings in which runs of one program may differ, since each draws its own examples and takes AdamW's step itself."""


def program_of(spec: Settings) -> str:
    """What runs of one program have in common."""
    return spec.model_dump_json(exclude=set(OWN))


def refuse_batched(spec: Settings, objective: Objective) -> str:
    """Why runs of these settings cannot train as one program, as the end of a sentence; empty where they can."""
    if not objective.batchable:
        return f"{spec.objective} computes what cannot be batched"
    if not objective.backbone.batchable:
        return f"backbone {spec.backbone} computes what cannot be batched"
    if spec.accumulate > 1 or spec.processes > 1 or spec.recompute:
        return "each takes its batch in parts"
    return ""


@fresh_torch_state()
def train_batched(specs: Sequence[Settings], root: str | Path = "runs") -> list[Run]:
    """Trains, measures and saves runs that differ in no other setting than ``OWN``, or continues them, as one program.

    Raises what ``train`` raises, and ``RequestError`` where they differ in more, or cannot be batched.
    """
    if len(set(map(program_of, specs))) != 1:
        raise RequestError(f"runs of one program differ in no more than {', '.join(OWN)}; train these one by one")
    folders = [Path(root) / spec.digest for spec in specs]
    asked = [pair for pair in zip(specs, folders, strict=True) if not (pair[1] / "rows.jsonl").exists()]
    with ExitStack() as held:
        started, threads = list[Started](), None
        for spec, folder in asked:
            parts = build_parts(spec, folder)
            if why := refuse_batched(spec, parts.objective):
                raise RequestError(f"these runs cannot train as one program: {why}; train them one by one")
            threads = open_folder(spec, parts.task, parts.objective, folder, held)
            started.append(Started.in_folder(spec, parts, folder, World()))
        held.enter_context(use_threads(threads))
        with stop_signals() as stopping:
            _train_level(started, stopping)
            if stopping():  # asked for while the last was measured, and meant for whatever comes after these
                raise InterruptedTrainingError("stopped; the runs of this program are finished")
    return [load(folder) for folder in folders]


def _train_level(started: Sequence[Started], stopping: Callable[[], bool]) -> None:
    """Trains runs to their end. Those whose last save was earlier than that of others catch up alone."""
    going = [each for each in started if not _has_ended(each)]
    most = max((each.training.position.step for each in going), default=0)
    for each in going:
        train_steps(each.training, most, each.checkpoint, partial(each.evaluate, Progress()), stopping=stopping)
    for each in started:
        if _has_ended(each):
            _finish(each)
    train_together([each for each in going if not _has_ended(each)], stopping)


def _has_ended(run: Started) -> bool:
    position = run.training.position
    return run.trained or position.solved or position.step == run.training.spec.steps


def _finish(run: Started) -> None:
    """At once, and not when the last of them has ended: the others may be interrupted, and their program lost."""
    if not run.trained:
        run.checkpoint.save_weights()
    run.measure(Progress())


def train_together(going: list[Started], stopping: Callable[[], bool] = lambda: False) -> None:
    """The loop, for runs at the same step: until the last step, or until each finds its task solved; each is measured
    when it ends. Raises ``InterruptedTrainingError`` once all are saved where ``stopping`` says so."""
    began = last = saved = time.perf_counter()
    first_step = going[0].training.position.step if going else 0
    while going:
        trainings = [each.training for each in going]
        spec, position, stack = trainings[0].spec, trainings[0].position, Stack(trainings)
        while not any(map(_has_ended, going)):
            stack.take_step()
            now = time.perf_counter()
            for each in trainings:
                each.position.seconds += now - last
            last = now
            if position.step % spec.eval_every == 0 or position.step == spec.steps:
                examples_per_second = (position.step - first_step) * spec.batch / (now - began)
                for run in going:
                    run.training.position.solved = run.evaluate(Progress(), examples_per_second)
            stop = stopping()
            if stop or time.perf_counter() - saved > SAVE_SECONDS:
                for run in going:
                    run.checkpoint.save()
                saved = time.perf_counter()
            if stop:
                raise InterruptedTrainingError(f"stopped at step {position.step} of {spec.steps} and saved")
        stack.release()
        for run in filter(_has_ended, going):
            _finish(run)
        measured = time.perf_counter() - last
        began, last = began + measured, last + measured  # measuring is no time of those that go on
        going = [run for run in going if not _has_ended(run)]


class Stack:
    """The weights of several trainings as tensors [K, ...], of which each training's parameters are views: what changes
    those, as AdamW or the loading of a checkpoint, changes these."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = trainings
        for training in trainings:
            training.recorded = None  # it knows the weights by where they lie
        self._losses = [_Loss(training.model.objective).train() for training in trainings]
        self._weights, self._buffers = stack_module_state(self._losses)
        named = [dict(loss.named_parameters()) for loss in self._losses]
        self._parameters = [[each[name] for each in named] for name in self._weights]
        for weight, parameters in zip(self._weights.values(), self._parameters, strict=True):
            for parameter, own in zip(parameters, weight.detach(), strict=True):
                parameter.data = own
        self.recorded = RecordedStep(trainings, self.backward) if all(map(can_record, trainings)) else None
        self._stream = torch.Generator("cpu" if self.recorded is None else trainings[0].spec.device)

    def take_step(self) -> None:
        """One update of each, on a batch of its own."""
        batches = [batch_of(each.data, each.task, each.spec, each.position.step) for each in self.trainings]
        if self.recorded is not None and self.recorded.play(batches):
            return
        batches = align([batch.to(self.trainings[0].spec.device) for batch in batches])
        streams = [each.stream() for each in self.trainings] if self.recorded is None else self.recorded.seeded()
        for training, batch, out in zip(self.trainings, batches, self.backward(batches, streams), strict=True):
            training.losses.add(batch, out)
            training.update()

    def backward(self, batches: Sequence[Batch], streams: Sequence[torch.Generator]) -> list[LossOut]:
        """Losses and gradients of a batch each, in place of those that are there, with what they draw from a stream
        each. The batches are of one layout (``align``)."""
        trainings, spec, like = self.trainings, self.trainings[0].spec, batches[0]
        for loss in self._losses:
            loss.objective.begin_step(*own_steps(spec, trainings[0].position.step))
        # Where rows are of one length, lengths are the same in all batches, and vmap need not follow them.
        differing = ["tokens"] if like.layout.uniform else ["tokens", "prompt_len", "answer_len"]
        given = {name: torch.stack([getattr(batch, name) for batch in batches]) for name in differing}
        try:
            which = torch.arange(len(streams), device=like.tokens.device)
            losses = vmap(partial(self._loss, like, streams), randomness="same")
            with autocast(spec):
                total, parts, per_token = losses(self._weights, self._buffers, given, which)
        except RuntimeError as error:  # of a plug-in, or of an option that no test has tried
            if "vmap" not in str(error):
                raise
            raise RequestError(f"{spec.objective} cannot be batched, so train its runs one by one: {error}") from error
        for weight in self._weights.values():
            weight.grad = None
        total.sum().backward()  # type: ignore[no-untyped-call]  # torch's
        for weight, parameters in zip(self._weights.values(), self._parameters, strict=True):
            for at, parameter in enumerate(parameters):
                parameter.grad = None if weight.grad is None else weight.grad[at]
        return [
            LossOut(total[at], {name: value[at] for name, value in parts.items()}, per_token[at])
            for at in range(len(trainings))
        ]

    def release(self) -> None:
        """Gives each parameter memory of its own again."""
        for parameters in self._parameters:
            for parameter in parameters:
                parameter.data, parameter.grad = parameter.data.clone(), None

    def _loss(
        self,
        like: Batch,
        streams: Sequence[torch.Generator],
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        given: dict[str, Tensor],
        which: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Of one of the runs, as ``vmap`` sees it, number ``which``: its batch is like this one but for what is
        ``given``."""
        batch = replace(like, **given)  # type: ignore[arg-type]  # fields that are tensors
        with OwnDraws(self._stream, streams, which, like.layout.uniform):
            out: LossOut = functional_call(self._losses[0], weights | buffers, (batch, self._stream))
        return out.total, dict(out.parts), out.per_token


class OwnDraws(TorchFunctionMode):
    """Within, under ``vmap``, what would be drawn from ``stream`` is drawn for each network from its own of
    ``streams``, as it would be alone; ``which`` is the number of a network, as ``vmap`` sees it. Raises
    ``RequestError`` where answers are not ``alike`` in length, for then a network alone draws fewer numbers."""

    def __init__(self, stream: torch.Generator, streams: Sequence[torch.Generator], which: Tensor, alike: bool) -> None:
        super().__init__()
        self.stream, self.streams, self.which, self.alike = stream, streams, which, alike

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if given.get("generator") is not self.stream:
            return func(*args, **given)
        if not self.alike:
            raise RequestError(
                "these runs cannot train as one program: their answers differ in length, and what is drawn depends on "
                "that; train them one by one"
            )
        drawn = torch.stack([func(*args, **{**given, "generator": own}) for own in self.streams])
        return drawn[self.which]


class _Loss(nn.Module):
    """The loss as a call, which is what PyTorch can make with other weights."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, rng: torch.Generator) -> LossOut:
        return self.objective.loss(batch, rng)
