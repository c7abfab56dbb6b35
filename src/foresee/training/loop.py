"""The training loop, and what stands around it: a run's parts, its folder, and its files.

Every step is a pure function of the weights, the optimizer's state, the run's settings and the step's number: data
order and the objective's randomness come from streams keyed by the step. So a run killed at any moment, SIGKILL
included, continues from its last checkpoint and ends, on a CPU, with the bytes of one that was never killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.errors import ForeseeError, RequestError
from foresee.core.isolation import fresh_torch_state
from foresee.core.spec import describe
from foresee.objectives.base import Objective
from foresee.tasks.base import Task, tasks
from foresee.tasks.data import Data
from foresee.training.checkpoint import Checkpoint, Position
from foresee.training.conformance import check_model, check_task
from foresee.training.data import TrainingData
from foresee.training.distributed import Model, World, init_process_group
from foresee.training.evaluate import evaluate_watched, measure_trained
from foresee.training.examples import (
    require_whole_parts,
    test_examples,
    training_data,
    warn_of_rows,
    watched_and_measured,
)  # fmt: skip
from foresee.training.process import locked, open_folder, require_processes, stop_signals, use_threads
from foresee.training.progress import Progress
from foresee.training.records import CODING
from foresee.training.run import Run, load
from foresee.training.settings import Settings
from foresee.training.step import Training, take_step

SAVE_SECONDS = 20.0
"""Between the end of one save and the start of the next."""


class InterruptedTrainingError(ForeseeError):
    """Training was asked to stop, and was saved."""


@fresh_torch_state()
def train(spec: Settings, root: str | Path = "runs", progress: Progress | None = None) -> Run:
    """Trains, measures and saves one run under ``root``, or continues it, or returns it where it is finished.

    Raises ``RequestError`` where the settings cannot be run or the folder is damaged or in use, ``ForeseeError`` where
    the disk is full or a process was lost, and ``InterruptedTrainingError`` on Ctrl-C and SIGTERM once all is saved.
    Of several processes the main one raises what went wrong, and the others ``OtherProcessError``.
    """
    world = init_process_group()
    shown = progress if progress is not None and world.is_main else Progress()
    directory = Path(root) / spec.digest

    def read() -> list[Any]:
        run = load(directory)
        return [run.rows, run.metrics, run.timing, run.examples, run.anatomies, run.environment]

    with closing(shown):
        if world.broadcast((directory / "rows.jsonl").exists):
            shown.say(f"this run was finished before, and nothing is trained again: {directory}")
        else:
            world.run_on_all(lambda: require_processes(spec, world))
            parts = world.run_on_all(lambda: build_parts(spec, directory))
            with ExitStack() as held:
                threads = world.broadcast(lambda: open_folder(spec, parts.task, parts.objective, directory, held))
                held.enter_context(use_threads(threads))
                _train_and_measure(spec, parts, directory, shown, world)
        run = Run(directory, spec, *world.broadcast(read))
        shown.done(run)
    return run


def continue_run(run: Run, more: int, root: str | Path | None = None, progress: Progress | None = None) -> Run:
    """Trains the weights of a finished run for ``more`` steps, on the data that come after those it has seen; ``root``
    is the folder beside it by default.

    A finished run keeps no optimizer state, so AdamW, its warm-up and the schedule begin anew; it keeps its vocabulary,
    also on a file of its own that has changed since. Raises ``RequestError`` where its weights are gone or ``more`` is
    below 1, and what ``train`` raises.
    """
    if more < 1:
        raise RequestError(f"{more} more steps were asked for; ask for at least 1")
    # As said anew, so that it is named by its plug-ins as they are now.
    before, digest, moved = run.steps, run.spec.digest, {"objective": run.spec.objective}
    if isinstance(run.task, Data):
        run.task.rows("train")  # refuses files that are gone
        moved["task"] = describe(tasks, run.task)
    elif run.data is not None:
        moved["data"] = f"file:{run.data}"
    spec = run.spec.replace(steps=before + more, parent=digest, parent_steps=before, **moved)
    root = run.dir.parent if root is None else Path(root)
    init_process_group().broadcast(lambda: _start(run, root / spec.digest))
    return train(spec, root, progress)


def _start(run: Run, directory: Path) -> None:
    """Writes what a run in ``directory`` that continues ``run`` begins with, unless it has begun. Its checkpoint comes
    last: with it all is there."""
    start = directory / "checkpoint" / "latest.safetensors"
    if any(path.exists() for path in (directory / "rows.jsonl", directory / "model.safetensors", start)):
        return
    tensors, _ = files.read_tensors(run.dir / "model.safetensors")
    with files.explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        if isinstance(run.task, Data):
            files.write_json(directory / CODING, run.task.keep())
        begun = {f"model.{name}": value for name, value in tensors.items()}
        files.write_tensors(start, begun, asdict(Position(step=run.steps)))


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    task: Task
    objective: Objective
    data: TrainingData
    test: Batch


def build_parts(spec: Settings, directory: Path) -> Parts:
    """Everything that the settings may be refused for, before anything is written. ``directory`` is the run's, which
    may hold what the run that it continues has kept."""
    task = spec.build_task(directory / CODING)
    if isinstance(task, Data) and task.digest() != spec.task_digest:
        raise RequestError(f"the files behind task {spec.task} are not those that this run was asked with")
    check_task(task)
    objective, data = spec.build_objective(task), training_data(spec, task)
    test = test_examples(spec, task, data)
    warn_of_rows(task, test)
    require_whole_parts(spec, task, data)
    # Once more from the same streams; a checkpoint is large, and its weights are not drawn.
    again = None if spec.backbone_digest else partial(spec.build_objective, task)
    check_model(task, objective, test, spec.steps, again)
    return Parts(task, objective, data, test)


def _train_and_measure(spec: Settings, parts: Parts, directory: Path, progress: Progress, world: World) -> None:
    """Trains from wherever the folder stands, then measures."""
    started = Started.in_folder(spec, parts, directory, world)
    training, checkpoint = started.training, started.checkpoint
    if not started.trained:
        progress.start(spec, training.position.step)
        with stop_signals() as stopping:
            evaluate = partial(started.evaluate, progress)
            train_steps(training, spec.steps, checkpoint, evaluate, progress, stopping)
        checkpoint.save_weights()
    started.measure(progress)


@dataclass
class Started:
    """A run whose folder is held: what trains it, and what it is measured on."""

    training: Training
    checkpoint: Checkpoint
    watched: Batch
    test: Batch
    trained: bool
    """Whether its weights were trained to the end before."""

    @staticmethod
    def in_folder(spec: Settings, parts: Parts, directory: Path, world: World) -> Started:
        """The run as it stands in its folder. Raises ``RequestError`` where that lacks what it should continue."""
        watched, test = watched_and_measured(parts.test, spec, parts.task)
        training = Training(spec, parts.task, parts.data, Model(parts.objective, spec.device, world))
        checkpoint = Checkpoint(directory, training)
        trained = checkpoint.load_weights()
        if not trained:
            checkpoint.resume()
            if training.position.step < spec.parent_steps:
                raise RequestError(f"{directory} lacks its start; begin it with {spec.command}")
        return Started(training, checkpoint, watched.to(spec.device), test, trained)

    def evaluate(self, progress: Progress, examples_per_second: float) -> bool:
        """``evaluate_watched`` of this run."""
        return evaluate_watched(self.training, self.checkpoint.directory, self.watched, progress, examples_per_second)

    def measure(self, progress: Progress) -> None:
        """Measures the trained weights and finishes the folder."""
        training, world, directory = self.training, self.training.model.world, self.checkpoint.directory
        self.checkpoint.remove()
        progress.say(f"measuring on {len(self.test):,} test examples")
        try:
            results = training.model.evaluate(
                lambda: measure_trained(
                    training.spec, training.task, training.model.objective, training.data, self.test,
                    training.position.step,
                )
            )  # fmt: skip
        except KeyboardInterrupt:
            raise world.own_error(
                InterruptedTrainingError(
                    f"stopped while measuring; {self.checkpoint.weights} is saved and the same command continues"
                )
            ) from None
        world.broadcast(lambda: results.save(directory) if results is not None else None)


def train_steps(
    training: Training,
    until: int,
    checkpoint: Checkpoint | None = None,
    evaluate: Callable[[float], bool] | None = None,
    progress: Progress | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """The loop: trains until step ``until``, or until ``evaluate`` (given examples a second) finds the task solved.

    Raises ``InterruptedTrainingError`` once the state is saved where ``stopping`` says so.
    """
    spec, model, position = training.spec, training.model, training.position
    world, first_step, seconds_before = model.world, position.step, position.seconds
    began = saved = time.perf_counter()
    model.objective.train()
    while position.step < until and not position.solved:
        take_step(training)

        # Evaluation.
        elapsed = time.perf_counter() - began
        position.seconds = seconds_before + elapsed
        if evaluate is not None and (position.step % spec.eval_every == 0 or position.step == spec.steps):
            position.solved = evaluate((position.step - first_step) * spec.batch / elapsed)
        if progress is not None:
            progress.step(spec, position.step)

        # Save: all processes at the same step.
        if checkpoint is not None:
            due = world.is_main and time.perf_counter() - saved > SAVE_SECONDS
            stop, save = world.all_reduce(torch.tensor([stopping(), due])).bool().tolist()
            if stop or save:
                position.seconds = seconds_before + time.perf_counter() - began  # an evaluation takes time too
                checkpoint.save()
                saved = time.perf_counter()
            if stop:
                raise world.own_error(
                    InterruptedTrainingError(
                        f"stopped at step {position.step} of {spec.steps} and saved in {checkpoint.directory}; "
                        "the same command continues"
                    )
                )
