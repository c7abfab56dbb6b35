"""One training step: as on any device, or recorded once, as a CUDA graph, and played again on each batch.

A step of a small network is a thousand small kernels, each of which waits for the processor to launch it: a GPU is idle
most of the time. Played again, all of them are one launch. What a step computes is the same; random numbers are drawn
on the device, from a stream keyed by the step's number as ever.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from foresee.core.batch import Batch, are_uniform
from foresee.core.errors import ForeseeWarning, explain_lost_process
from foresee.core.seeds import torch_seed, torch_stream
from foresee.objectives.base import LossOut
from foresee.tasks.base import Task
from foresee.training.checkpoint import Position
from foresee.training.data import TrainingData
from foresee.training.distributed import Model
from foresee.training.examples import batch_of, part_share, rank_batch, split_batch
from foresee.training.losses import Losses, term_shares, weigh
from foresee.training.optimizer import adamw, autocast, learning_rate, own_steps
from foresee.training.settings import Settings


@dataclass
class Training:
    """What the loop works on: a run in memory, at some step."""

    spec: Settings
    task: Task
    data: TrainingData
    model: Model
    position: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        self.optimizer = adamw(self.model.objective, self.spec)
        self.losses = Losses(self.task.answer_length, self.spec.device, self.model.world)
        self.recorded = RecordedStep([self], self._backward) if can_record(self) else None

    def _backward(self, batches: Sequence[Batch], streams: Sequence[torch.Generator]) -> list[LossOut]:
        """Of one batch, whole: what ``RecordedStep`` asks for."""
        self.optimizer.zero_grad()
        with autocast(self.spec):
            out = self.model.objective.loss(batches[0], streams[0])
        out.total.backward()  # type: ignore[no-untyped-call]  # torch's
        return [out]

    def stream(self) -> torch.Generator:
        """The randomness of the objective, as it stands at the beginning of the step."""
        spec, world = self.spec, self.model.world
        own = () if world.world_size == 1 else ("rank", world.rank)
        return torch_stream("objective", spec.objective, spec.seed, self.position.step, *own)

    def update(self) -> None:
        """Sets the learning rate, clips the gradients and takes AdamW's step."""
        self.set_learning_rate()
        self.apply_gradients()
        self.position.step += 1

    def set_learning_rate(self) -> None:
        """Of this step; in place, where it lies on a device."""
        rate = learning_rate(self.spec, self.position.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate

    def apply_gradients(self) -> None:
        """Clips them and takes AdamW's step. The device is not asked for anything."""
        if self.spec.clip:
            weights = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, self.spec.clip, foreach=True)
        self.optimizer.step()


def take_step(training: Training) -> None:
    """One update on the batch of the step."""
    spec, step = training.spec, training.position.step
    training.model.objective.begin_step(*own_steps(spec, step))
    batch = batch_of(training.data, training.task, spec, step)
    if training.recorded is None:
        _update_on(training, batch, training.stream())
    elif not training.recorded.play([batch]):
        _update_on(training, batch, training.recorded.seeded()[0])


def _update_on(training: Training, batch: Batch, stream: torch.Generator) -> None:
    """Of this process's rows of a batch, part by part, so that only one part's activations are held at a time."""
    spec, model, world = training.spec, training.model, training.model.world
    batch, own_share = rank_batch(batch, spec, world.rank)
    parts = split_batch(batch, spec.accumulate)
    training.optimizer.zero_grad()
    for part, shares in zip(parts, term_shares(model, parts, stream), strict=True):
        model.average_gradients(last=part is parts[-1])
        with explain_lost_process():
            with autocast(spec):
                out = model.loss(part, stream)
            out = weigh(out, part_share(part, batch) * own_share, shares)
            # Gradients are averaged over processes, but theirs add up to the whole batch's.
            (out.total * world.world_size).backward()  # type: ignore[no-untyped-call]  # torch's
        training.losses.add(part, out)
    training.update()


ORDINARY = 2
"""Steps that are taken as on any device before one is recorded: they make the optimizer's state, and load kernels."""
REHEARSALS = 2
"""Forward and backward passes on the recording's own stream before it: they fill caches and take work spaces."""


def can_record(training: Training) -> bool:
    """Whether steps of this training do the same at every step, on one CUDA device, in one part."""
    spec, objective = training.spec, training.model.objective
    alone = spec.processes == spec.accumulate == 1 and not spec.recompute
    return spec.device == "cuda" and alone and objective.recordable and objective.backbone.recordable


def record(
    work: Callable[[], object], rehearse: Callable[[], object], streams: Sequence[torch.Generator]
) -> Callable[[], object]:
    """``work`` on the current CUDA device as one launch, which is called to do it; its random numbers are of the
    streams as these stand when it is called. What it reads must stay where it is. ``rehearse`` is done first, ``work``
    is not."""
    own, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]  # torch's
    own.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(own):
        for _ in range(REHEARSALS):
            rehearse()
    torch.cuda.current_stream().wait_stream(own)
    for each in streams:
        graph.register_generator_state(each)
    with torch.cuda.graph(graph, stream=own, capture_error_mode="thread_local"):
        work()
    return graph.replay


class RecordedStep:
    """A step of one training, or of several at the same step, that is recorded once it has been taken a few times."""

    def __init__(
        self,
        trainings: Sequence[Training],
        backward: Callable[[Sequence[Batch], Sequence[torch.Generator]], Sequence[LossOut]],
    ) -> None:
        """``backward`` computes a loss and its gradients for each, from a batch and a stream each; the gradients take
        the place of those that are there."""
        self.trainings, self.backward = trainings, backward
        self.ordinary = ORDINARY
        """How many steps are still taken as ever."""
        self._device = trainings[0].spec.device
        self._streams = [torch.Generator(self._device) for _ in trainings]
        self._batches: list[Batch] = []
        self._replay: Callable[[], object] | None = None
        # Numbers that a recording reads must lie on the device.
        for group in self._groups():
            group["lr"] = torch.tensor(float(group["lr"]), device=self._device)

    @property
    def recorded(self) -> bool:
        """Whether it was."""
        return self._replay is not None

    def play(self, batches: Sequence[Batch]) -> bool:
        """Takes the step on a batch for each, which may lie on the CPU. False where it must be taken as ever: the first
        ones, batches unlike the recorded ones in form, and all of them where recording failed (which is said once)."""
        if self.ordinary or not are_uniform(batches):
            self.ordinary = max(0, self.ordinary - 1)
            return False
        if not self._batches:
            self._batches = [
                replace(batch.to(self._device), tokens=batch.tokens.to(self._device, copy=True)) for batch in batches
            ]
            self._record()
        pairs = list(zip(self._batches, batches, strict=True))
        alike = all(held.layout == each.layout and held.tokens.shape == each.tokens.shape for held, each in pairs)
        if self._replay is None or not alike:
            return False
        for held, each in pairs:
            held.tokens.copy_(each.tokens)
        self.seeded()
        for training in self.trainings:
            training.set_learning_rate()
        self._replay()
        for training in self.trainings:
            training.position.step += 1
        return True

    def seeded(self) -> list[torch.Generator]:
        """``Training.stream`` of each, on the device."""
        for stream, training in zip(self._streams, self.trainings, strict=True):
            spec, step = training.spec, training.position.step
            stream.manual_seed(torch_seed("objective", spec.objective, spec.seed, step))
        return self._streams

    def _record(self) -> None:
        try:
            for group in self._groups():
                group["capturable"] = True
            self._replay = record(self._work, self._rehearse, self._streams)
        except RuntimeError as error:
            warnings.warn(
                f"steps of {self.trainings[0].spec.objective} could not be recorded, and are taken one by one: {error}",
                ForeseeWarning,
                stacklevel=5,
            )
        finally:
            for group in self._groups():
                group["capturable"] = False
            self._forget_gradients()

    def _rehearse(self) -> None:
        self.backward(self._batches, self._streams)
        self._forget_gradients()  # so that a recording takes memory of its own for them

    def _work(self) -> None:
        losses = self.backward(self._batches, self._streams)
        for training, batch, out in zip(self.trainings, self._batches, losses, strict=True):
            training.losses.add(batch, out)
            training.apply_gradients()

    def _forget_gradients(self) -> None:
        for training in self.trainings:
            training.optimizer.zero_grad()

    def _groups(self) -> list[dict[str, Any]]:
        return [group for training in self.trainings for group in training.optimizer.param_groups]
