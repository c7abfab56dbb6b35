"""A run: what was asked for, the directory that holds it, and what came of it.

``runs/<digest>/`` holds ``spec.json``, ``env.json``, ``metrics.jsonl`` (training, without times: on a CPU the same spec
gives the same bytes), ``timing.jsonl``, ``rows.jsonl`` (final measurements), ``examples.jsonl``, ``model.safetensors``
and, while unfinished, ``checkpoint/``. ``rows.jsonl`` is written last: a run that has it is finished.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.metrics.base import Rows
from foresee.metrics.verdict import SOLVED, Verdict, judge
from foresee.objectives.base import Objective
from foresee.tasks.base import Task
from foresee.training.settings import Settings


@dataclass(frozen=True)
class Run:
    """A finished run, read from its directory."""

    dir: Path
    spec: Settings
    rows: Rows
    seconds: float
    """Training time, evaluation included, summed over resumptions."""

    @cached_property
    def task(self) -> Task:
        """The task it was trained on."""
        return self.spec.build_task()

    @cached_property
    def objective(self) -> Objective:
        """The trained objective, on the CPU, in evaluation mode."""
        objective = self.spec.build_objective(self.task)
        tensors, _ = files.read_tensors(self.dir / "model.safetensors")
        load_weights(objective, tensors, self.dir / "model.safetensors")
        return objective.eval()

    @cached_property
    def chance(self) -> float:
        """``Task.chance``, as recorded when training began, so that a verdict needs no file that the task was read
        from; the task itself is asked where nothing is recorded."""
        recorded = recorded_chance(files.read_json(self.dir / "env.json")) if (self.dir / "env.json").exists() else None
        return self.task.chance if recorded is None else recorded

    @property
    def verdict(self) -> Verdict:
        """What the measurements say; inconclusive until the positive control beside it (same root) has solved."""
        control = self.dir.parent / self.spec.control().digest
        solved = None
        if (control / "rows.jsonl").exists():
            exact = read_rows(control).get("exact")
            solved = isinstance(exact, dict) and exact["value"] >= SOLVED
        return judge(self.rows, self.chance, solved)

    def generate(self, prompt: str) -> str:
        """The answer that the trained model writes for a prompt in the task's text form.

        It is as long as the task says from the prompt (``Task.answer_length_of``), or ends with the task's ``end``
        symbol, and then it is ``answer_length`` tokens at most.
        """
        task = self.task
        tokens, _ = task.read_line(prompt)
        # What decides backwards or all at once must know where the answer ends before it writes any of it.
        stops = task.end is not None and self.objective.order == "forward"
        length = task.answer_length if stops else task.answer_length_of(tokens)
        device = next(self.objective.parameters()).device
        with torch.inference_mode():
            written = self.objective.generate(torch.tensor([tokens], device=device), length)[0].tolist()
        if task.end in written:
            written = written[: written.index(task.end) + 1]
        return task.write_answer(written)

    def json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "run": self.spec.digest, "dir": str(self.dir), "task": self.spec.task, "objective": self.spec.objective,
            "backbone": self.spec.backbone, "seed": self.spec.seed, "steps": self.steps, "rows": self.rows,
            "verdict": self.verdict.json(), "seconds": round(self.seconds, 1),
        }  # fmt: skip

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Lines of ``metrics.jsonl``. Raises ``RequestError`` where it is missing or damaged."""
        lines = files.read_json_lines(self.dir / "metrics.jsonl")
        for number, line in enumerate(lines, start=1):
            if not isinstance(line.get("step"), int) or not isinstance(line.get("eval"), dict):
                raise files.damaged(self.dir / "metrics.jsonl", f"line {number} is not a report")
        return lines

    @property
    def steps(self) -> int:
        """Steps taken: fewer than asked for where training stopped once solved."""
        return int(last_number(self.dir / "metrics.jsonl", "step"))


def recorded_chance(environment: object) -> float | None:
    """What ``env.json`` says of the task's chance; None where it says nothing, as in runs of older versions."""
    chance = environment.get("chance") if isinstance(environment, dict) else None
    return (
        float(chance) if isinstance(chance, int | float) and not isinstance(chance, bool) and 0 <= chance <= 1 else None
    )


def read_rows(directory: Path) -> Rows:
    """Final measurements of a finished run. Raises ``RequestError`` where they are missing or damaged."""
    path = directory / "rows.jsonl"
    rows: Rows = {}
    for number, line in enumerate(files.read_json_lines(path), start=1):
        name = line.pop("row", None)
        row = line.get("values", line)
        measured = row if isinstance(row, list) else [row]
        if not isinstance(name, str) or not all(map(_is_measurement, measured)):
            raise files.damaged(path, f"line {number} is not a measurement")
        rows[name] = row
    if not isinstance(rows.get("exact"), dict):
        raise files.damaged(path, "it has no row 'exact'")
    return rows


def _is_measurement(row: Any) -> bool:
    """Whether it is a value with the number of examples it was measured on, and nothing but numbers."""
    return (
        isinstance(row, dict)
        and {"value", "n"} <= row.keys()
        and all(isinstance(number, int | float) and math.isfinite(number) for number in row.values())
    )


def last_number(path: Path, key: str) -> float:
    """The number under ``key`` in the last line of a JSON-lines file. Raises ``RequestError`` where there is none."""
    lines = files.read_json_lines(path)
    if not lines or not isinstance(lines[-1].get(key), int | float):
        raise files.damaged(path, f"its last line holds no number {key!r}")
    return float(lines[-1][key])


def rows_as_lines(rows: Rows) -> list[dict[str, Any]]:
    """``read_rows`` backwards."""
    return [
        {"row": name, "values": value} if isinstance(value, list) else {"row": name, **value}
        for name, value in rows.items()
    ]


def read_spec(directory: Path) -> Settings:
    """The spec of a run directory. Raises ``RequestError`` where it is none or is damaged."""
    if not directory.is_dir():
        raise RequestError(f"{directory} is not a run directory: no such folder")
    path = directory / "spec.json"
    if not path.exists():
        raise RequestError(f"{directory} is not a run directory: it holds no spec.json")
    raw = files.read_json(path)
    try:
        spec = Settings.read(raw)
    except RequestError as error:
        raise files.damaged(path, error) from None
    # A folder that was given another name says nothing; one that has a digest's form must have the right one.
    name = directory.resolve().name
    if re.fullmatch("[0-9a-f]{16}", name) and name != spec.digest:
        raise files.damaged(path, f"its digest is {spec.digest}, not the name of its folder")
    return spec


def load(directory: str | Path) -> Run:
    """A finished run. Raises ``RequestError`` where the directory is no run, unfinished or damaged."""
    directory = Path(directory)
    spec = read_spec(directory)
    if not (directory / "rows.jsonl").exists():
        raise RequestError(f"{directory} holds an unfinished run; run the command that started it to finish it")
    return Run(directory, spec, read_rows(directory), last_number(directory / "timing.jsonl", "seconds"))


def saved_weights(objective: Objective) -> dict[str, torch.Tensor]:
    """What a run saves of a model: everything but frozen weights, which the files behind its backbone hold."""
    frozen = {
        name for name, parameter in objective.named_parameters(remove_duplicate=False) if not parameter.requires_grad
    }
    return {name: value for name, value in objective.state_dict().items() if name not in frozen}


def load_weights(objective: Objective, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copies ``saved_weights`` in. Raises ``RequestError`` where names or shapes differ, as with another vocabulary."""
    own = saved_weights(objective)
    for name in sorted(own.keys() | tensors.keys()):
        if name not in own or name not in tensors:
            raise RequestError(f"{path} does not fit this model: weight {name!r} is only on one side")
        if own[name].shape != tensors[name].shape:
            raise RequestError(
                f"{path} does not fit this model: weight {name!r} has shape {tuple(tensors[name].shape)}, but "
                f"{tuple(own[name].shape)} is needed; was it made for another vocabulary or size?"
            )
    objective.load_state_dict(tensors, strict=False)  # not strict: frozen weights are where they came from
