"""The evaluations during training, the final measurement on other examples, and measuring a run again."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from foresee.core import files
from foresee.core.batch import NOTHING, Batch
from foresee.core.errors import ForeseeError, ForeseeWarning, RequestError
from foresee.core.files import hash_file
from foresee.core.fingerprints import Fingerprints
from foresee.core.isolation import fresh_torch_state
from foresee.core.seeds import torch_stream
from foresee.core.spec import resolve
from foresee.metrics.anatomy import anatomy
from foresee.metrics.base import Rows, Subject
from foresee.metrics.measure import measure_all, measure_quickly
from foresee.metrics.passes import predict_answers
from foresee.objectives.base import Objective
from foresee.tasks.base import Task, tasks
from foresee.tasks.data import Data
from foresee.tasks.example_files import read_examples
from foresee.training.data import TrainingData
from foresee.training.examples import (
    first_trained,
    problems_trained,
    test_examples,
    training_data,
    watched_and_measured,
)
from foresee.training.optimizer import autocast, learning_rate
from foresee.training.process import has_device, locked
from foresee.training.progress import Progress
from foresee.training.records import CODING, Report, Timing, rows_as_lines
from foresee.training.run import Run
from foresee.training.settings import Settings

if TYPE_CHECKING:
    from foresee.training.step import Training

SOLVED_ENOUGH = 0.97
"""``until_solved`` stops at this ``exact`` of watched examples: the final ones must not miss 0.95 by chance."""
SHOWN_EXAMPLES = 24
DISSECTED = 3
"""Of those, how many have their probabilities and attention kept."""
SCORE_BYTES = 256 << 20
"""Most memory that the float32 scores [rows, A, V] of one evaluated chunk take."""


@dataclass(frozen=True)
class Results:
    """What a run's files say of its trained model."""

    rows: Rows
    examples: list[dict[str, Any]]
    anatomies: list[dict[str, Any]]

    def save(self, directory: Path) -> None:
        """Writes it into a run's folder, the rows last: a run that has them is finished."""
        files.write_json_lines(directory / "examples.jsonl", self.examples)
        # On one line: with a number a line it would be thrice as long.
        files.write_json_lines(directory / "anatomy.json", [{"examples": self.anatomies}])
        files.write_json_lines(directory / "rows.jsonl", rows_as_lines(self.rows))


def rows_at_a_time(task: Task, symbols: int) -> int:
    """How many rows are evaluated at a time: 1,024, or as many as keep their scores within ``SCORE_BYTES``."""
    return max(1, min(1024, SCORE_BYTES // (4 * task.answer_length * symbols)))


def evaluate_watched(
    training: Training, directory: Path, watched: Batch, progress: Progress, examples_per_second: float
) -> bool:
    """Evaluates during training, writes a line of ``metrics.jsonl`` and of ``timing.jsonl``, and says whether training
    may stop because the task is solved. Raises ``ForeseeError`` where training diverged."""
    spec, position, losses, model = training.spec, training.position, training.losses, training.model
    means = losses.means(min((position.step - 1) % spec.eval_every + 1, position.step - spec.parent_steps))
    by_position = losses.by_position()
    losses.clear()
    if not math.isfinite(means["loss"]):
        raise model.world.own_error(
            ForeseeError(
                f"the loss is {means['loss']} at step {position.step}: training diverged; "
                f"try a lower learning rate than {spec.lr}"
            )
        )
    chunk = rows_at_a_time(training.task, len(model.objective.vocab))
    with autocast(spec):
        seen = model.evaluate(lambda: measure_quickly(training.task, model.objective, watched, chunk))
    model.objective.train()

    def write() -> bool:
        assert seen is not None
        line: Report = {
            "step": position.step, "examples": position.step * spec.batch, "loss": means.pop("loss"), "parts": means,
            "position_loss": by_position, "lr": learning_rate(spec, position.step - 1), "eval": seen,
        }  # fmt: skip
        timing: Timing = {
            "step": position.step, "seconds": round(position.seconds, 3),
            "examples_per_second": round(examples_per_second, 1),
        }  # fmt: skip
        position.metrics_bytes = files.append_json_line(directory / "metrics.jsonl", line)
        position.timing_bytes = files.append_json_line(directory / "timing.jsonl", timing)
        progress.report(spec, line, timing)
        return spec.until_solved and bool(seen["exact"] >= SOLVED_ENOUGH)

    return model.world.broadcast(write)


def measure_trained(
    spec: Settings, task: Task, objective: Objective, data: TrainingData, test: Batch, steps: int
) -> Results:
    """Every measurement of an objective that was trained for ``steps`` steps."""
    chunk = rows_at_a_time(task, len(objective.vocab))
    subject = Subject(
        task=task,
        objective=objective.eval(),
        test=test.to(spec.device),
        train=first_trained(data, spec, steps, len(test)).to(spec.device),
        stream=partial(torch_stream, "metrics", spec.digest),
        chunk=chunk,
        trained=lambda: problems_trained(task, data, spec, steps),
    )
    with autocast(spec):
        rows = measure_all(subject)
        shown = test.rows(slice(0, SHOWN_EXAMPLES))
        answers = predict_answers(objective, shown.to(spec.device), min(chunk, SHOWN_EXAMPLES), task).tolist()
        written = [[token for token in answer if token != NOTHING] for answer in answers]
        pairs = list(zip(shown.pairs(), written, strict=True))
        dissected = [
            anatomy(task, objective, prompt, answer, wrote) for (prompt, answer), wrote in islice(pairs, DISSECTED)
        ]
    examples = [
        {
            "prompt": task.write_line(prompt, []),
            "answer": task.write_answer(answer),
            "wrote": task.write_answer(wrote),
        }
        for (prompt, answer), wrote in pairs
    ]
    return Results(rows, examples, [example | each for example, each in zip(examples, dissected, strict=False)])


@fresh_torch_state()
def evaluate(run: Run, data: Path | None = None) -> Rows:
    """Every measurement, on the run's test examples or on all of the file ``data``; where that is the file that the run
    was trained on, which lies elsewhere now, on the run's. Rows about training examples are the run's own: they do not
    depend on what it is tested on.

    Raises ``RequestError`` where the file cannot be read or a line is no example of the run's task.
    """
    spec, own = run.spec, False
    if data is not None and issubclass(resolve(tasks, spec.task).cls, Data):
        run = replace(run, data=data)
    task, trained = run.task, None
    if data is not None and isinstance(task, Data):
        with suppress(RequestError):  # a test file of the run's may be gone
            own = task.digest() == spec.task_digest
    elif data is not None and spec.data_digest and hash_file(data)[:16] == spec.data_digest:
        spec, own = spec.model_copy(update={"data": f"file:{data}"}), True
    if data is None or own:
        drawn = training_data(spec, task)
        _, test = watched_and_measured(test_examples(spec, task, drawn), spec, task)
        trained = partial(problems_trained, task, drawn, spec, run.steps)
    elif isinstance(task, Data):
        task = task.at(data, whole=True)
        test = task.rows("test").batch(range(len(task.rows("test"))))
        _warn_of_trained(run, task.identity(test), data)
    else:
        test = read_examples(data, task)
        if known := int((~task.held_out(test)).sum()):
            warnings.warn(
                f"{known:,} of {len(test):,} rows of {data} are of the train split, which the run may have seen",
                ForeseeWarning,
                stacklevel=2,
            )
    # A run that was trained on a GPU can be measured where there is none.
    spec = run.spec if has_device(run.spec.device) else run.spec.replace(device="cpu")
    with autocast(spec):
        subject = Subject(
            task,
            run.objective.to(spec.device),
            test.to(spec.device),
            train=None,
            stream=partial(torch_stream, "metrics", run.spec.digest),
            chunk=rows_at_a_time(task, len(run.objective.vocab)),
            trained=trained,
        )
        return measure_all(subject)


def _warn_of_trained(run: Run, prompts: Fingerprints, data: Path) -> None:
    """Warns where rows of a user's file have a prompt that a run was trained on, while its own rows are still there."""
    with suppress(RequestError):
        own = run.spec.build_task(run.dir / CODING)
        assert isinstance(own, Data)
        if own.digest() == run.spec.task_digest:
            seen = numpy.isin(prompts, own.stored.prompts[own.stored.split("train")])
            if known := int(seen.sum()):
                warnings.warn(
                    f"{known:,} of {len(seen):,} rows of {data} have a prompt that the run was trained on",
                    ForeseeWarning,
                    stacklevel=3,
                )


def keep_rows(run: Run, measured: Rows) -> None:
    """Adds to a finished run's file the rows that it has not, as those of a metric that was added since; what it has
    stays as it was measured."""
    rows = {**measured, **run.rows}
    with locked(run.dir):
        files.write_json_lines(run.dir / "rows.jsonl", rows_as_lines(rows))
