"""A run's folder, read and written here alone: what was asked for, and what came of it.

``runs/<digest>/`` holds ``spec.json``, ``env.json``, ``metrics.jsonl`` (training, without times: on a CPU the same spec
gives the same bytes), ``timing.jsonl``, ``rows.jsonl`` (final measurements), ``examples.jsonl``, ``anatomy.json``,
``model.safetensors``, ``coding.json`` (of a user's own rows: the vocabulary, and how text becomes tokens) and, while
unfinished, ``checkpoint/``. A run that has ``rows.jsonl``, written last, is finished.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import torch

from foresee.core import files
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.isolation import fresh_torch_state
from foresee.core.plugins import explain_edited
from foresee.core.spec import resolve
from foresee.metrics.base import Rows
from foresee.metrics.control import Circumstances, list_doubts
from foresee.metrics.verdict import RELIABLE, Verdict, judge
from foresee.objectives.base import Objective
from foresee.tasks.base import Task
from foresee.tasks.data import Data
from foresee.training import records
from foresee.training.checkpoint import load_weights
from foresee.training.records import Anatomy, Environment, Example, Report, Timing
from foresee.training.settings import Settings, part_registries
from foresee.training.summary import describe_run, run_html
from foresee.training.values import checked
from foresee.training.witnesses import (
    Witness,
    control_solved,
    find_witnesses,
    is_represented,
    looks_ahead,
    settling_commands,
    solved_elsewhere,
)


@dataclass(frozen=True)
class DamagedRun:
    """A run's folder that cannot be read, and a sentence on why."""

    dir: Path
    reason: str


@dataclass(frozen=True, repr=False)
class Run:
    """A run as its folder stands; ``rows`` are empty until it is finished."""

    dir: Path
    spec: Settings
    rows: Rows = field(default_factory=dict)
    metrics: list[Report] = field(default_factory=list)
    timing: list[Timing] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    anatomies: list[Anatomy] = field(default_factory=list)
    environment: Environment = field(default_factory=Environment)
    witnesses: tuple[Witness, ...] | None = field(default=None, repr=False, compare=False)
    """Among which its control, and whoever solved its task, are looked for; the folders beside it where None."""
    data: Path | None = None
    """Where the user's own rows that it was trained on lie now; where its task says where None."""

    @property
    def digest(self) -> str:
        """Its name, by which commands find it."""
        return self.dir.name

    @property
    def state(self) -> Literal["finished", "unfinished"]:
        """Whether the final measurements are there."""
        return "finished" if self.rows else "unfinished"

    @property
    def steps(self) -> int:
        """Steps taken, up to the last report: fewer than asked for where training stopped once solved."""
        return self.metrics[-1]["step"] if self.metrics else 0

    @property
    def seconds(self) -> float:
        """Training time up to the last report, evaluation included, summed over resumptions."""
        return self.timing[-1]["seconds"] if self.timing else 0.0

    @property
    def examples_per_second(self) -> float | None:
        """The median over reports."""
        return median(line["examples_per_second"] for line in self.timing) if self.timing else None

    @property
    def parameters(self) -> int | None:
        """How many numbers are trained, as recorded when training began; runs of older versions do not say."""
        return self.environment.get("parameters")

    @cached_property
    def task(self) -> Task:
        """The task it was trained on. One of a user's own rows needs no file until they are asked for; warns where the
        file is not the one that it was trained on."""
        task = self.spec.build_task(self.dir / records.CODING)
        if not isinstance(task, Data):
            if self.data is not None and self.spec.data_file is None:
                raise RequestError(f"the task of {self.dir} draws its own examples; leave out --data {self.data}")
            return task
        task = task if self.data is None else task.at(self.data)
        with suppress(RequestError):  # it is gone, which matters to whoever asks for its rows
            if task.digest() != self.spec.task_digest:
                what = f"{task.path} is not as it was when {self.dir} was trained on it"
                if self.data is not None:
                    what = f"{task.path} holds other rows than {self.dir} was trained on"
                warnings.warn(f"{what}; the run reads it by its own vocabulary", ForeseeWarning, stacklevel=3)
        return task

    @cached_property
    @fresh_torch_state()
    def objective(self) -> Objective:
        """The trained objective, on the CPU, in evaluation mode. Warns where a plug-in has changed since."""
        parts = [resolve(registry, getattr(self.spec, kind)).cls for kind, registry in part_registries().items()]
        if edited := explain_edited(parts, self.spec.plugins):
            said = f"{self.dir} was trained with another version of {edited}"
            warnings.warn(f"{said}; what is measured now is the new code's", ForeseeWarning, stacklevel=5)
        objective = self.spec.build_objective(self.task)
        tensors, _ = files.read_tensors(self.dir / "model.safetensors")
        load_weights(objective, tensors, self.dir / "model.safetensors")
        return objective.eval()

    @cached_property
    def chance(self) -> float:
        """``Task.chance``, as recorded when training began, so that a verdict needs no file that the task was read
        from; the task itself is asked where nothing is recorded, as by older versions."""
        recorded = self.environment.get("chance")
        return self.task.chance if recorded is None else recorded

    @property
    def verdict(self) -> Verdict:
        """What the measurements say; inconclusive until a positive control has solved. Raises ``RequestError`` while
        the run is unfinished, and where chance is unknown because the task is not installed here."""
        if not self.rows:
            raise RequestError(f"{self.dir} holds an unfinished run, which has no verdict yet")
        return judge(self.rows, self.chance, list_doubts(self.describe_circumstances()))

    def describe_circumstances(self, witnesses: Sequence[Witness] | None = None) -> Circumstances:
        """What is known beside its measurements: what ``witnesses`` (its own where None) did on its task, its depth and
        its losses."""
        if witnesses is None:
            witnesses = find_witnesses(self.dir.parent, self.spec) if self.witnesses is None else self.witnesses
        known = Circumstances(
            control_solved=control_solved(self.spec, witnesses),
            control=self.spec.control().command,
            layers=self.layers,
            hops=self.hops,
            represented=is_represented(self.spec, witnesses),
            losses=self._losses_of(self._unlearned),
            solved_elsewhere=solved_elsewhere(self.spec, witnesses),
            blind=math.log(1 / self.chance) if len(self._unlearned) == 1 and 0 < self.chance < 1 else None,
        )
        # Only where it has not solved is it named, and then with what else would settle the matter.
        return (
            known
            if known.control_solved
            else replace(known, control=settling_commands(self.spec, known, self.dir.parent)[0])
        )

    @cached_property
    def _unlearned(self) -> list[int]:
        """The answer positions that are not reliable in the end, where next-token training is all there is to the loss;
        what is left of the others' loss falls for long and can change no outcome."""
        forced = self.rows.get("forced")
        if not isinstance(forced, list) or not looks_ahead(self.spec):
            return []
        if any(len(line["parts"]) > 1 or len(line.get("position_loss") or []) < len(forced) for line in self.metrics):
            return []
        return [place for place, row in enumerate(forced) if row["value"] < RELIABLE]

    def _losses_of(self, places: Sequence[int]) -> list[tuple[int, float]]:
        """(step, mean training loss since the report before) at these answer positions, or all in all where there are
        none."""
        if not places:
            return [(line["step"], line["loss"]) for line in self.metrics]
        return [(line["step"], fmean(line["position_loss"][place] for place in places)) for line in self.metrics]

    @cached_property
    def layers(self) -> int | None:
        """Layers of the backbone, as recorded when training began; by its spec in runs of older versions."""
        return self.environment.get("layers") or self.spec.layers

    @cached_property
    def hops(self) -> int | None:
        """``Task.hops``, as recorded when training began; the task itself is asked by runs of older versions."""
        if "hops" in self.environment:
            return self.environment["hops"]
        try:
            return self.task.hops
        except RequestError:
            return None

    @fresh_torch_state()
    def generate(self, prompt: str) -> str:
        """The answer that the trained model writes for a prompt in the task's text form.

        It is as long as ``Task.answer_length_of`` says, or ends with the task's ``end``, ``answer_length`` at most.
        Warns where that may be too long. Raises ``RequestError`` where the task cannot read the prompt.
        """
        if not isinstance(prompt, str):
            raise RequestError(f"a prompt is a text, not a {type(prompt).__name__}; give one at a time")
        task = self.task
        tokens, _ = task.read_line(prompt)
        # What decides backwards or all at once must know where the answer ends before it writes any of it.
        stops = task.end is not None and self.objective.order == "forward"
        length = task.answer_length if stops else task.answer_length_of(tokens)
        if task.end is not None and not stops:
            warnings.warn(
                f"{self.spec.objective} does not write from left to right: where it is measured it is told how long an "
                f"answer is, and here it writes {length} tokens, the most there are; a shorter one may come out wrong",
                ForeseeWarning,
                stacklevel=3,
            )
        device = next(self.objective.parameters()).device
        with torch.inference_mode():
            written = self.objective.generate(torch.tensor([tokens], device=device), length)[0].tolist()
        if task.end in written:
            written = written[: written.index(task.end) + 1]
        return task.write_answer(written)

    def __repr__(self) -> str:
        return describe_run(self)

    def _repr_html_(self) -> str:
        return run_html(self)

    def json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "run": self.spec.digest, "dir": str(self.dir), "task": self.spec.task, "objective": self.spec.objective,
            "backbone": self.spec.backbone, "seed": self.spec.seed, "steps": self.steps, "rows": self.rows,
            "verdict": self.verdict.json(), "seconds": round(self.seconds, 1),
        }  # fmt: skip


def read_run(directory: str | Path) -> Run:
    """A run, finished or not. Raises ``RequestError`` naming the file, and the line, that is missing or damaged."""
    directory = Path(directory)
    spec = records.read_spec(directory)
    finished = (directory / "rows.jsonl").exists()
    # A run that was killed while it wrote a line goes on from its checkpoint; until then the line may be cut short.
    return Run(
        directory,
        spec,
        records.read_rows(directory) if finished else {},
        records.read_lines(directory / "metrics.jsonl", records.REPORT, required=finished, may_be_cut=not finished),
        records.read_lines(directory / "timing.jsonl", records.TIMING, required=finished, may_be_cut=not finished),
        records.read_lines(directory / "examples.jsonl", records.EXAMPLE),
        records.read_anatomies(directory / "anatomy.json"),
        records.read_environment(directory / "env.json"),
    )


@checked
def load(name: str | Path, runs: str | Path = "runs", data: str | Path | None = None) -> Run:
    """A finished run, named by its folder, or by its digest or the start of that anywhere below ``runs``; ``data`` says
    where the file lies now that it was trained on. Raises ``RequestError`` where there is none, or it is unfinished or
    damaged."""
    directory = records.locate_run(name, runs)
    run = replace(read_run(directory), data=None if data is None else Path(data))
    if not run.rows:
        raise RequestError(f"{directory} holds an unfinished run; finish it with `{run.spec.command}`")
    return run


def find_runs(*places: str | Path) -> list[Run | DamagedRun]:
    """Every run whose folder is one of ``places`` or lies below one, each once, place by place and there by task,
    backbone, objective and seed. Raises ``RequestError`` where a place is no folder."""
    folders: dict[Path, None] = {}
    found: list[Run | DamagedRun] = []
    for place in map(Path, places):
        if not place.is_dir():
            raise RequestError(f"{place} is no folder of runs; train something first, or name another")
        specs = [place / "spec.json"] if (place / "spec.json").exists() else sorted(place.rglob("spec.json"))
        runs, damaged = [], []
        for folder in (spec.parent for spec in specs if spec.parent not in folders):
            folders[folder] = None
            try:
                runs.append(read_run(folder))
            except RequestError as error:
                damaged.append(DamagedRun(folder, str(error)))
        runs.sort(key=lambda run: (run.spec.task, run.spec.backbone, run.spec.objective, run.spec.seed))
        found += [*runs, *damaged]
    # Those beside a single run that was asked for count too.
    witnesses = tuple(each for parent in {folder.parent for folder in folders} for each in find_witnesses(parent))
    return [replace(run, witnesses=witnesses) if isinstance(run, Run) else run for run in found]
