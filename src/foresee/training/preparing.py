"""What a run needs before its first step, all of it checked: its parts, and its folder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.objectives.base import Objective
from foresee.tasks.base import Task
from foresee.training.data import TrainingData
from foresee.training.environment import environment
from foresee.training.examples import test_examples, training_data
from foresee.training.guard import locked
from foresee.training.run import read_spec
from foresee.training.settings import Settings
from foresee.training.threads import began_with


@dataclass(frozen=True)
class Parts:
    """What a run is made of, checked."""

    task: Task
    objective: Objective
    data: TrainingData
    test: Batch


def built(spec: Settings) -> Parts:
    """Everything that reading the spec may refuse, before anything is written."""
    task = spec.build_task()
    objective = spec.build_objective(task)
    data = training_data(spec, task)
    test = test_examples(spec, task, data)
    data.batch_at(0, spec.batch)  # refuses a size that splits groups
    if (spec.batch // spec.processes // spec.accumulate) % task.group:
        of_processes = f" on processes={spec.processes}" if spec.processes > 1 else ""
        raise RequestError(
            f"batch={spec.batch} in accumulate={spec.accumulate} parts{of_processes} would split groups of "
            f"{task.group} rows of one problem; each part needs a multiple of {task.group} rows"
        )
    return Parts(task, objective, data, test)


def begun(spec: Settings, parts: Parts, directory: Path, held: ExitStack) -> int | None:
    """Takes the run's folder for as long as ``held`` is, and gives the threads that the run began with.

    ``env.json`` also says how many numbers are trained and what chance is, so that both are known where the weights or
    the file behind the task are not kept."""
    with files.explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(directory))
    files.remove_temporaries(directory)
    if (directory / "spec.json").exists():
        read_spec(directory)
    else:
        trained = sum(each.numel() for each in parts.objective.parameters() if each.requires_grad)
        recorded = {**environment(), "parameters": trained, "chance": parts.task.chance}
        files.write_json(directory / "env.json", recorded)
        files.write_json(directory / "spec.json", spec.model_dump())
    return began_with(directory)
