"""One training step: as on any device, or recorded once, as a CUDA graph, and played again on each batch.

A step of a small network is a thousand small kernels, each of which waits for the processor to launch it: a GPU is idle
most of the time. Played again, all of them are one launch. What a step computes is the same; random numbers are drawn
on the device, from a stream keyed by the step's number as ever.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning, explain_lost_process
from foresee.core.seeds import torch_seed, torch_stream
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
        self.recorded = RecordedStep(self) if can_record(self) else None

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
    spec, model, position = training.spec, training.model, training.position
    model.objective.begin_step(*own_steps(spec, position.step))
    batch = batch_of(training.data, training.task, spec, position.step)
    if training.recorded is None:
        own_stream = () if model.world.world_size == 1 else ("rank", model.world.rank)
        _update_on(training, batch, torch_stream("objective", spec.objective, spec.seed, position.step, *own_stream))
    elif not training.recorded.play(batch):
        _update_on(training, batch, training.recorded.seeded())


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


class RecordedStep:
    """The recording of a training's step, once there is one."""

    def __init__(self, training: Training) -> None:
        """``ordinary`` is how many steps are still taken as ever before one is recorded."""
        self.training = training
        self.stream = torch.Generator(training.spec.device)
        self.ordinary = ORDINARY
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        # Numbers that a recording reads must lie on the device.
        for group in training.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=training.spec.device)

    def play(self, batch: Batch) -> bool:
        """Takes the step on ``batch``, which may lie on the CPU. False where it must be taken as ever: the first ones,
        batches unlike the recorded one in form, and all of them where recording failed (which is said once)."""
        if self.ordinary or not batch.layout.uniform:
            self.ordinary = max(0, self.ordinary - 1)
            return False
        if self._batch is None:
            self._batch = replace(
                batch.to(self.training.spec.device), tokens=batch.tokens.to(self.training.spec.device, copy=True)
            )
            self._record(self._batch)
        held = self._batch
        if self._graph is None or batch.layout != held.layout or batch.tokens.shape != held.tokens.shape:
            return False
        held.tokens.copy_(batch.tokens)
        self.seeded()
        self.training.set_learning_rate()
        self._graph.replay()
        self.training.position.step += 1
        return True

    @property
    def recorded(self) -> bool:
        """Whether it was."""
        return self._graph is not None

    def seeded(self) -> torch.Generator:
        """The stream, as it stands at the beginning of the step."""
        spec = self.training.spec
        return self.stream.manual_seed(torch_seed("objective", spec.objective, spec.seed, self.training.position.step))

    def _record(self, batch: Batch) -> None:
        training, optimizer = self.training, self.training.optimizer
        own = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's
        own.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(own):
            for _ in range(REHEARSALS):
                self._backward(batch)
        torch.cuda.current_stream().wait_stream(own)
        optimizer.zero_grad()  # so that the recording takes memory of its own for gradients
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.stream)
        try:
            for group in optimizer.param_groups:
                group["capturable"] = True
            with torch.cuda.graph(graph, stream=own, capture_error_mode="thread_local"):
                self._backward(batch)
                training.apply_gradients()
            self._graph = graph
        except RuntimeError as error:
            warnings.warn(
                f"steps of {training.spec.objective} could not be recorded, and are taken one by one: {error}",
                ForeseeWarning,
                stacklevel=4,
            )
        finally:
            for group in optimizer.param_groups:
                group["capturable"] = False
            optimizer.zero_grad()

    def _backward(self, batch: Batch) -> None:
        """Gradients of the loss, which is added to the sums only where this is recorded, as it is then played."""
        training = self.training
        training.optimizer.zero_grad()
        with autocast(training.spec):
            out = training.model.objective.loss(batch, self.stream)
        out.total.backward()  # type: ignore[no-untyped-call]  # torch's
        if torch.cuda.is_current_stream_capturing():
            training.losses.add(batch, out)
