"""The one training loop.

Every step is a pure function of the weights, the optimiser's state, the run's spec and the step's number: data order
and the objective's randomness come from streams keyed by the step. So a run killed at any moment, SIGKILL included,
continues from its last checkpoint and ends, on a CPU, with the bytes of one that was never killed.

On several processes (``parallel``), each goes through this loop with its own rows of every batch; the first alone
writes files and shows progress.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from foresee.core import files
from foresee.core.errors import ForeseeError
from foresee.metrics.measure import measure_quickly
from foresee.training.checkpoint import Checkpoint, Position
from foresee.training.distributed import Agreement, World, joined, losses_explained, replica_of
from foresee.training.examples import watched_and_measured
from foresee.training.guard import stop_signals
from foresee.training.losses import Losses
from foresee.training.measuring import measured
from foresee.training.optimizer import adamw, learning_rate
from foresee.training.preparing import Parts, begun, built
from foresee.training.progress import Progress, Silent
from foresee.training.run import Run, load
from foresee.training.settings import Settings
from foresee.training.step import autocast, own_batch, update
from foresee.training.threads import computing_with

SOLVED_ENOUGH = 0.97
"""``until_solved`` stops once the watched examples reach this ``exact``: above ``solved`` (0.95), so that the final
measurement on other examples does not miss it by chance."""
SAVE_SECONDS = 20.0


class InterruptedTrainingError(ForeseeError):
    """Training was asked to stop, and was saved."""


def train(spec: Settings, root: str | Path = "runs", progress: Progress | None = None) -> Run:
    """Trains, measures and saves one run under ``root``, or continues it, or returns it where it is finished.

    Raises ``RequestError`` where the spec cannot be run or its directory is damaged or in use, ``ForeseeError`` where
    the disk is full or another process was lost, and ``InterruptedTrainingError`` on Ctrl-C and SIGTERM once the state
    is saved. Of several processes the first raises what went wrong, and the others ``parallel.OtherProcessError``.
    """
    world = joined()
    shown = progress if progress is not None and world.leads else Silent()
    directory = Path(root) / spec.digest
    if not world.led(lambda: (directory / "rows.jsonl").exists()):
        _work(spec, directory, shown, world)

    def outcome() -> list[Any]:
        run = load(directory)
        return [run.rows, run.metrics, run.timing]

    run = Run(directory, spec, *world.led(outcome))
    shown.done(run)
    return run


def _work(spec: Settings, directory: Path, progress: Progress, world: World) -> None:
    """Trains and measures what is unfinished, once all of it is checked."""
    world.refuse_unfit(spec)
    parts = world.agreed(lambda: built(spec))
    with ExitStack() as held:
        threads = world.led(lambda: begun(spec, parts, directory, held))
        held.enter_context(computing_with(threads))
        _Training(spec, directory, parts, progress, world).run()


class _Training:
    """The state of one run in progress."""

    def __init__(self, spec: Settings, directory: Path, parts: Parts, progress: Progress, world: World) -> None:
        self.spec, self.directory, self.progress, self.world = spec, directory, progress, world
        self.task, self.objective, self.data = parts.task, parts.objective, parts.data
        watched, self.test = watched_and_measured(parts.test, spec)
        self.watched = watched.to(spec.device)
        self.replica = replica_of(self.objective, spec, world)
        self.optimiser = adamw(self.objective, spec)
        self.position = Position()
        self.losses = Losses(self.task.answer_length, spec.device, world)
        self.checkpoint = Checkpoint(directory, self.replica, self.optimiser, self.losses, spec.device)

    def run(self) -> None:
        """Trains from wherever the directory stands, then measures."""
        model = self.checkpoint.model
        if self.world.led(model.exists):
            self.position = self.checkpoint.take_model()
        else:
            self.position = self.checkpoint.resume()
            try:
                with stop_signals() as stop:
                    self._train(stop)
            finally:
                self.progress.finish()
            self.checkpoint.save_model(self.position)
        self.world.led(lambda: shutil.rmtree(self.checkpoint.path.parent, ignore_errors=True))
        try:
            self._measure()
        except KeyboardInterrupt:
            raise self.world.spoken(
                InterruptedTrainingError(f"stopped while measuring; {model} is saved and the same command continues")
            ) from None

    # Training -------------------------------------------------------------------------------------------------------

    def _train(self, stop: Callable[[], bool]) -> None:
        spec, position = self.spec, self.position
        self.progress.start(spec, position.step)
        began = last_save = time.perf_counter()
        seconds_before, first_step = position.seconds, position.step
        agreement = Agreement(self.world)
        self.objective.train()
        while position.step < spec.steps and not position.solved:
            self._step(position.step)
            position.step += 1
            now = time.perf_counter()
            position.seconds = seconds_before + now - began
            if position.step % spec.eval_every == 0 or position.step == spec.steps:
                self._report((position.step - first_step) * spec.batch / (now - began))
            self.progress.step(position.step)
            stopping, saving = agreement(stop(), now - last_save > SAVE_SECONDS)
            if stopping:
                self._stop()
            if saving:
                self.checkpoint.save(position)
                last_save = now
        if agreement.last()[0]:
            self._stop()

    def _step(self, step: int) -> None:
        """One update."""
        batch, weight = own_batch(self.data, self.task, self.spec, step, self.world.rank)
        with losses_explained():
            out = update(self.objective, self.optimiser, batch, self.spec, step, self.replica, weight)
        self.losses.add(batch, out)

    def _stop(self) -> None:
        self.checkpoint.save(self.position)
        raise self.world.spoken(
            InterruptedTrainingError(
                f"stopped at step {self.position.step} of {self.spec.steps} and saved in {self.directory}; "
                f"the same command continues"
            )
        )

    def _report(self, examples_per_second: float) -> None:
        """Writes one line of ``metrics.jsonl`` and of ``timing.jsonl``, and decides whether the task is solved."""
        spec, position = self.spec, self.position
        means = self.losses.means((position.step - 1) % spec.eval_every + 1)
        by_position = self.losses.by_position()
        self.losses.clear()
        if not math.isfinite(means["loss"]):
            raise self.world.spoken(
                ForeseeError(
                    f"the loss is {means['loss']} at step {position.step}: training diverged; "
                    f"try a lower learning rate than {spec.lr}"
                )
            )
        with autocast(spec):
            seen = self.replica.examined(lambda: measure_quickly(self.task, self.objective, self.watched))
        self.objective.train()
        timing = {
            "step": position.step,
            "seconds": round(position.seconds, 3),
            "examples_per_second": round(examples_per_second, 1),
        }

        def write() -> bool:
            assert seen is not None
            line = {
                "step": position.step,
                "examples": position.step * spec.batch,
                "loss": means.pop("loss"),
                "parts": means,
                "position_loss": by_position,
                "lr": learning_rate(spec, position.step - 1),
                "eval": seen,
            }
            position.metrics_bytes = files.append_json_line(self.directory / "metrics.jsonl", line)
            position.timing_bytes = files.append_json_line(self.directory / "timing.jsonl", timing)
            self.progress.report(line, timing)
            return spec.until_solved and bool(seen["exact"] >= SOLVED_ENOUGH)

        position.solved = self.world.led(write)

    # Measuring ------------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        self.progress.measuring(len(self.test))
        found = self.replica.examined(
            lambda: measured(self.spec, self.task, self.objective, self.data, self.test, self.position.step)
        )

        def save() -> None:
            assert found is not None
            found.save(self.directory)

        self.world.led(save)
