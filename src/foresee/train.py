"""The one training loop.

Every step is a pure function of the weights, the optimiser's state, the run's spec and the step's number: data order
and the objective's randomness come from streams keyed by the step. So a run killed at any moment, SIGKILL included,
continues from its last checkpoint and ends, on a CPU, with the bytes of one that was never killed.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresee import files
from foresee.anatomy import anatomy
from foresee.batch import NOTHING, Batch
from foresee.data import TrainingData
from foresee.diagnostics.base import Subject
from foresee.diagnostics.passes import write
from foresee.diagnostics.run_all import measure_all, quick
from foresee.environment import environment
from foresee.errors import ForeseeError, RequestError
from foresee.examples import first_trained, problems_trained, test_examples, training_data, watched_and_measured
from foresee.guard import locked, stop_signals
from foresee.memory import keep_large_blocks
from foresee.objectives.base import Objective
from foresee.optimiser import adamw, learning_rate, restore, state_tensors
from foresee.progress import Progress, Silent
from foresee.run import Run, load, load_weights, read_spec, rows_as_lines, saved_weights
from foresee.run_spec import RunSpec
from foresee.seeds import torch_stream
from foresee.step import autocast, batch_of, update
from foresee.tasks.base import Task
from foresee.threads import threads_of

SOLVED_ENOUGH = 0.97
"""``until_solved`` stops once the watched examples reach this ``exact``: above ``solved`` (0.95), so that the final
measurement on other examples does not miss it by chance."""
SAVE_SECONDS = 20.0
SHOWN_EXAMPLES = 24
DISSECTED = 3
"""Of those, how many have their probabilities and attention kept."""
PLACES_SHOWN = 256
"""Answer places, from the first, whose training loss is reported each by itself."""


class InterruptedTrainingError(ForeseeError):
    """Training was asked to stop, and was saved."""


@dataclass
class _Position:
    """How far a run has come: what a checkpoint notes beside its tensors."""

    step: int = 0
    seconds: float = 0.0
    metrics_bytes: int = 0
    timing_bytes: int = 0
    solved: bool = False


def train(spec: RunSpec, root: str | Path = "runs", progress: Progress | None = None) -> Run:
    """Trains, measures and saves one run under ``root``, or continues it, or returns it where it is finished.

    Raises ``RequestError`` where the spec cannot be run or its directory is damaged or in use, ``ForeseeError`` where
    the disk is full, and ``InterruptedTrainingError`` on Ctrl-C and SIGTERM once the state is saved.
    """
    progress = progress or Silent()
    directory = Path(root) / spec.digest
    if not (directory / "rows.jsonl").exists():
        _work(spec, directory, progress)
    run = load(directory)
    progress.done(run)
    return run


def _work(spec: RunSpec, directory: Path, progress: Progress) -> None:
    """Trains and measures what is unfinished, once all of it is checked."""
    keep_large_blocks()
    task = spec.build_task()
    objective = spec.build_objective(task).to(spec.device)
    data = training_data(spec, task)
    test = test_examples(spec, task, data)
    data.batch_at(0, spec.batch)  # refuses a size that splits groups, before anything is written
    if (spec.batch // spec.accumulate) % task.group:
        raise RequestError(
            f"batch={spec.batch} in accumulate={spec.accumulate} parts would split groups of {task.group} rows of one "
            f"problem; each part needs a multiple of {task.group} rows"
        )
    with files.explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        files.remove_temporaries(directory)
        if (directory / "spec.json").exists():
            read_spec(directory)
        else:
            files.write_json(directory / "env.json", environment())
            files.write_json(directory / "spec.json", asdict(spec))
        with threads_of(directory):
            _Training(spec, directory, task, objective, data, test, progress).run()


class _Training:
    """The state of one run in progress."""

    def __init__(
        self,
        spec: RunSpec,
        directory: Path,
        task: Task,
        objective: Objective,
        data: TrainingData,
        test: Batch,
        progress: Progress,
    ) -> None:
        self.spec, self.directory, self.task, self.objective, self.data = spec, directory, task, objective, data
        watched, self.test = watched_and_measured(test, spec)
        self.watched = watched.to(spec.device)
        self.progress = progress
        self.optimiser = adamw(objective, spec)
        self.position = _Position()
        self.sums: dict[str, Tensor] = {}  # of the loss and its parts, since the last report
        self.by_position = self._no_losses()
        self.model = directory / "model.safetensors"
        self.checkpoint = directory / "checkpoint" / "latest.safetensors"

    def run(self) -> None:
        """Trains from wherever the directory stands, then measures."""
        if self.model.exists():
            tensors, note = files.read_tensors(self.model)
            load_weights(self.objective, tensors, self.model)
            self.position = _position(note, self.model)
        else:
            self._resume()
            try:
                with stop_signals() as stop:
                    self._train(stop)
            finally:
                self.progress.finish()
            # No times: the same spec gives the same bytes.
            files.write_tensors(self.model, saved_weights(self.objective), {"step": self.position.step})
        shutil.rmtree(self.checkpoint.parent, ignore_errors=True)
        try:
            self._measure()
        except KeyboardInterrupt:
            raise InterruptedTrainingError(
                f"stopped while measuring; {self.model} is saved and the same command continues"
            ) from None

    # Training -------------------------------------------------------------------------------------------------------

    def _train(self, stop: Callable[[], bool]) -> None:
        spec, position = self.spec, self.position
        self.progress.start(spec, position.step)
        began = last_save = time.perf_counter()
        seconds_before, first_step = position.seconds, position.step
        self.objective.train()
        while position.step < spec.steps and not position.solved:
            self._step(position.step)
            position.step += 1
            now = time.perf_counter()
            position.seconds = seconds_before + now - began
            if position.step % spec.eval_every == 0 or position.step == spec.steps:
                self._report((position.step - first_step) * spec.batch / (now - began))
            self.progress.step(position.step)
            if stop():
                self._save_checkpoint()
                raise InterruptedTrainingError(
                    f"stopped at step {position.step} of {spec.steps} and saved in {self.directory}; "
                    f"the same command continues"
                )
            if now - last_save > SAVE_SECONDS:
                self._save_checkpoint()
                last_save = now

    def _step(self, step: int) -> None:
        """One update."""
        batch = batch_of(self.data, self.task, self.spec, step)
        out = update(self.objective, self.optimiser, batch, self.spec, step)
        # Sums stay on the device: reading one would make a GPU wait at every step.
        for name, value in {"loss": out.total, **out.parts}.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()
        self.by_position += losses_by_position(batch, out.per_token, self.by_position.shape[1])

    def _no_losses(self) -> Tensor:
        places = min(self.task.answer_length, PLACES_SHOWN)
        return torch.zeros(2, places, dtype=torch.float64, device=self.spec.device)

    def _report(self, examples_per_second: float) -> None:
        """Writes one line of ``metrics.jsonl`` and of ``timing.jsonl``, and decides whether the task is solved."""
        spec, position = self.spec, self.position
        steps = (position.step - 1) % spec.eval_every + 1
        means = {name: float(value) / steps for name, value in self.sums.items()}
        sums, counts = self.by_position.tolist()
        self.sums, self.by_position = {}, self._no_losses()
        if not math.isfinite(means["loss"]):
            raise ForeseeError(
                f"the loss is {means['loss']} at step {position.step}: training diverged; "
                f"try a lower learning rate than {spec.lr}"
            )
        with autocast(spec):
            seen = quick(self.task, self.objective, self.watched)
        self.objective.train()
        position.solved = spec.until_solved and seen["exact"] >= SOLVED_ENOUGH
        line = {
            "step": position.step,
            "examples": position.step * spec.batch,
            "loss": means.pop("loss"),
            "parts": means,
            "position_loss": [loss / count if count else 0.0 for loss, count in zip(sums, counts, strict=True)],
            "lr": learning_rate(spec, position.step - 1),
            "eval": seen,
        }
        timing = {
            "step": position.step,
            "seconds": round(position.seconds, 3),
            "examples_per_second": round(examples_per_second, 1),
        }
        position.metrics_bytes = files.append_json_line(self.directory / "metrics.jsonl", line)
        position.timing_bytes = files.append_json_line(self.directory / "timing.jsonl", timing)
        self.progress.report(line, timing)

    # Saving ---------------------------------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        tensors = {f"model.{name}": value for name, value in saved_weights(self.objective).items()}
        tensors |= state_tensors(self.objective, self.optimiser)
        tensors |= {f"sum.{name}": value for name, value in self.sums.items()}
        tensors["by_position"] = self.by_position
        files.write_tensors(self.checkpoint, tensors, asdict(self.position))

    def _resume(self) -> None:
        """Takes up the checkpoint where there is one; reports that came after it are cut off and written again."""
        files.remove_temporaries(self.checkpoint.parent)
        if self.checkpoint.exists():
            tensors, note = files.read_tensors(self.checkpoint, self.spec.device)
            self.position = _position(note, self.checkpoint)
            load_weights(self.objective, _under("model.", tensors), self.checkpoint)
            restore(self.objective, self.optimiser, tensors)
            self.sums = _under("sum.", tensors)
            self.by_position = tensors.get("by_position", self.by_position)
        files.truncate(self.directory / "metrics.jsonl", self.position.metrics_bytes)
        files.truncate(self.directory / "timing.jsonl", self.position.timing_bytes)

    # Measuring ------------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Final measurements, on examples that no evaluation during training looked at."""
        spec = self.spec
        self.progress.measuring(len(self.test))
        subject = Subject(
            task=self.task,
            objective=self.objective.eval(),
            test=self.test.to(spec.device),
            train=first_trained(self.data, spec, self.position.step, len(self.test)).to(spec.device),
            rng=torch_stream("diagnostics", spec.digest),
            trained=lambda: problems_trained(self.task, self.data, spec, self.position.step),
        )
        with autocast(spec):
            rows = measure_all(subject)
            shown = self.test.rows(slice(0, SHOWN_EXAMPLES))
            written = write(self.objective, shown.to(spec.device), SHOWN_EXAMPLES, self.task).tolist()
            dissected = [
                anatomy(self.task, self.objective, prompt, answer, [token for token in wrote if token != NOTHING])
                for (prompt, answer), wrote in islice(zip(shown.pairs(), written, strict=True), DISSECTED)
            ]
        task = self.task
        examples = [
            {
                "prompt": task.write_line(prompt, []),
                "answer": task.write_answer(answer),
                "wrote": task.write_answer([token for token in wrote if token != NOTHING]),
            }
            for (prompt, answer), wrote in zip(shown.pairs(), written, strict=True)
        ]
        anatomies = [example | anatomised for example, anatomised in zip(examples, dissected, strict=False)]
        files.write_json_lines(self.directory / "examples.jsonl", examples)
        files.write_json(self.directory / "anatomy.json", {"examples": anatomies})
        files.write_json_lines(self.directory / "rows.jsonl", rows_as_lines(rows))


def losses_by_position(batch: Batch, per_token: Tensor, places: int) -> Tensor:
    """[2, places]: over the rows that have it, the sum of each answer place's loss (``LossOut.per_token`` [B, T]), and
    the number of those rows."""
    answers = per_token.double()
    if batch.layout.uniform:
        answers = answers[:, batch.layout.first : batch.layout.last][:, :places]
        counts = answers.new_full((answers.shape[1],), len(batch))
        # A batch of a task with answers of several lengths may hold answers of one.
        return torch.nn.functional.pad(torch.stack((answers.sum(0), counts)), (0, places - answers.shape[1]))
    columns = torch.arange(places, device=per_token.device)
    inside = columns < batch.answer_len[:, None]
    source = (batch.prompt_len[:, None] + columns).clamp(max=per_token.shape[1] - 1)
    return torch.stack(((answers.gather(1, source) * inside).sum(0), inside.double().sum(0)))


def _position(note: dict[str, Any], path: Path) -> _Position:
    try:
        return _Position(**note)
    except TypeError:
        raise files.damaged(path, "its header does not say how far the run had come") from None


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
