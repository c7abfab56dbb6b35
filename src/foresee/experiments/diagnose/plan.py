"""What a diagnosis is asked, and the plan of its runs, settled once, so that the same command continues it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from foresee.backbones.base import backbones
from foresee.core import files
from foresee.core.errors import RequestError
from foresee.core.spec import brief, describe, resolve, write_value
from foresee.datasets.request import TOKENIZERS
from foresee.experiments.diagnose.timing import Clock, Speed, fit_steps, measure_crowding, measure_speed
from foresee.objectives.base import objectives
from foresee.tasks.base import Task, tasks
from foresee.tasks.data import Data
from foresee.training.examples import test_examples, training_data, watched_and_measured
from foresee.training.settings import CONTROL, Settings

FORWARD, HIDDEN = "next-token", "teacherless"
"""The objective that is on trial, and the one that never sees an earlier answer token."""

WORDS_AT_MOST = 500
"""With tokenizer ``auto``, a file is cut into words where it holds no more different ones, and into characters
otherwise: a small network learns nothing of a word that it rarely sees."""

SCRATCH_RATE, CHECKPOINT_RATE = 2e-3, 1e-5
"""The learning rates of new weights, and of a checkpoint's."""
SMALL, SMALL_CONTEXT = "transformer:layers=3,width=128,heads=2,positions=rotary", 256
"""The default backbone, in which look-ups are found soonest; it is given a longer context where rows need one."""
SPARE = 64
"""Positions beyond prompt and answer that it is then given, for objectives that read more."""

ROWS = "fixed:200000"
STEPS_EVALUATIONS = 12
"""Evaluations during training where ``--steps`` are given."""
MEASURED, MEASURED_IN_HASTE = 1000, 250
"""Held-out examples of the final measurement, and where it would take more than a quarter of the time."""


@dataclass(frozen=True)
class DiagnosisSettings:
    """What decides a diagnosis; all specs are canonical. A folder holds the answer to one of these."""

    task: str
    task_digest: str
    objectives: tuple[str, ...]
    backbone: str
    seeds: int
    minutes: float
    steps: int | None
    batch: int
    lr: float
    first_seed: int = 0

    @staticmethod
    def of(
        task: Task,
        *,
        others: Sequence[str] = (),
        backbone: str | None = None,
        seeds: int = 2,
        minutes: float = 10.0,
        steps: int | None = None,
        batch: int = 128,
        lr: float | None = None,
        first_seed: int = 0,
    ) -> DiagnosisSettings:
        """``others`` are trained beside next-token, reversed and teacherless, which always are. ``steps`` takes the
        place of ``minutes``. Raises ``RequestError`` on the first thing that is wrong."""
        for name, value in (("seeds", seeds), ("batch", batch), ("steps", 1 if steps is None else steps)):
            if value < 1:
                raise RequestError(f"{name}={value} must be at least 1")
        if not 0 < minutes < math.inf:
            raise RequestError(f"minutes={minutes} must be above 0 and finite")
        if backbone is None:
            needed = task.prompt_length + task.answer_length + SPARE
            context = f",context={-(-needed // 64) * 64}" if needed - SPARE + 8 > SMALL_CONTEXT else ""
            backbone = SMALL + context
        task_spec = resolve(tasks, describe(tasks, task))
        network = resolve(backbones, backbone)
        if lr is None:
            lr = CHECKPOINT_RATE if network.name == "hf" else SCRATCH_RATE
        names = [resolve(objectives, name).text for name in (FORWARD, CONTROL, HIDDEN, *others)]
        return DiagnosisSettings(
            task=task_spec.text, task_digest=task_spec.cls.content_digest(task_spec.options),
            objectives=tuple(dict.fromkeys(names)), backbone=network.text,
            seeds=seeds, minutes=float(minutes), steps=steps, batch=batch, lr=float(lr), first_seed=first_seed,
        )  # fmt: skip

    def json(self) -> dict[str, Any]:
        """As it stands in ``plan.json``."""
        return asdict(self) | {"objectives": list(self.objectives)}

    def run(self, steps: int, eval_every: int, test: int) -> Settings:
        """Its first run, with these numbers."""
        return Settings.of(
            self.task, self.objectives[0], self.backbone, steps=steps, batch=self.batch, lr=self.lr, data=ROWS,
            test=test, eval_every=eval_every, warmup=min(100, steps // 10),
        )  # fmt: skip


def read_task(
    data: str,
    *,
    prompt: str = "prompt",
    answer: str = "answer",
    template: str | None = None,
    tokenizer: str = "auto",
    test_file: str | None = None,
    skip_bad: bool = False,
    checkpoint: str | None = None,
) -> Task:
    """The task behind ``data``: a task spec, or a file, of which the options after it say how it is read.

    ``tokenizer`` may be ``auto``: that of ``checkpoint`` where one is given; otherwise words where the file holds at
    most ``WORDS_AT_MOST`` different ones, else characters. Raises ``RequestError`` where it is neither spec nor file.
    """
    if data.partition(":")[0] in {*tasks.names(), *tasks.presets()} and not Path(data).is_file():
        given = (prompt, answer, template, tokenizer, test_file, skip_bad)
        if given != ("prompt", "answer", None, "auto", None, False):
            raise RequestError(
                f"{data} is a task's spec, and how its rows are read stands in it, as in data:FILE,test_file=OTHER; "
                "leave out --prompt, --answer, --template, --tokenizer, --test-data and --skip-bad"
            )
        return resolve(tasks, data).build()
    if Path(data.partition(",")[0]).exists() and not Path(data).exists():
        raise RequestError(f"{data}: options of a file stand apart here, as in --prompt question --answer reply")
    if not Path(data).exists() and not {*"*?["} & {*data} and not all(Path(part).exists() for part in data.split("+")):
        raise RequestError(f"{data} is neither a file nor a task; foresee list tasks names the tasks")

    def read(kind: str, ending: str = "symbol") -> Data:
        options = {"prompt": prompt, "answer": answer, "skip_bad": str(skip_bad).lower(), "template": template,
                   "test_file": test_file, "tokenizer": kind, "ending": ending}  # fmt: skip
        given = "".join(f",{key}={write_value(value)}" for key, value in options.items() if value is not None)
        built = resolve(tasks, f"data:{write_value(data)}{given}").build()
        assert isinstance(built, Data)
        lengths = built.stored.ends[1::2] - built.stored.ends[0::2]
        # Where all responses have one length, a symbol that closes them is one more thing to learn before look-ups.
        same = ending == "symbol" and kind in TOKENIZERS and (lengths == lengths[0]).all()
        return read(kind, "none") if same else built

    if tokenizer != "auto":
        return read(tokenizer)
    if checkpoint is not None:
        return read(f"hf:{checkpoint}")
    words = read("words")
    return words if len(words.vocab) <= WORDS_AT_MOST + 3 else read("characters")


@dataclass(frozen=True)
class DiagnosisPlan:
    """Settled numbers of a diagnosis. ``seconds`` is what all of it should take, where that was measured; ``beside`` is
    how many runs were then meant to go beside each other."""

    steps: int
    eval_every: int
    test: int
    seconds: float | None
    speeds: dict[str, Speed]
    beside: int = 1

    def runs(self, asked: DiagnosisSettings) -> list[Settings]:
        """All runs, seed by seed, so that an interrupted diagnosis has whole seeds."""
        first = asked.run(self.steps, self.eval_every, self.test)
        seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
        return [first.replace(objective=name, seed=seed) for seed in seeds for name in asked.objectives]


def make_plan(
    asked: DiagnosisSettings,
    task: Task,
    folder: Path,
    began: float,
    say: Callable[[str], None],
    clock: Clock,
    beside: int = 1,
) -> DiagnosisPlan:
    """The plan in ``folder``, or a new one that is put there. ``began`` is when the command did, by ``clock``.
    ``beside`` runs go beside each other, on a thread each where that is more than one.

    Raises ``RequestError`` where the folder answers other settings, a run is impossible, or the time is too short.
    """
    path = folder / "plan.json"
    if path.exists():
        return _read_plan(path, asked)
    first = asked.run(1, 1, MEASURED)
    runs = [first.replace(objective=name) for name in asked.objectives]
    for run in runs:  # each can be built, before anything is trained
        run.build_objective(task)
    data = training_data(first, task)
    watched, _ = watched_and_measured(test_examples(first, task, data), first, task)
    if asked.steps is not None:
        plan = DiagnosisPlan(asked.steps, max(1, asked.steps // STEPS_EVALUATIONS), MEASURED, None, {}, beside)
    else:
        whole, threads = asked.minutes * 60, torch.get_num_threads()
        say("measuring the speed of " + ", ".join(brief(objectives, run.objective) for run in runs))
        try:
            torch.set_num_threads(1 if beside > 1 else threads)
            slower = measure_crowding(beside, clock)
            speeds = {run.objective: measure_speed(run, task, data, watched, whole, clock, slower) for run in runs}
        finally:
            torch.set_num_threads(threads)
        steps, eval_every, seconds = fit_steps(speeds, asked.seeds, whole - (clock() - began), beside)
        slow = 5 * asked.seeds * sum(speed.evaluation for speed in speeds.values()) > beside * whole / 4
        plan = DiagnosisPlan(steps, eval_every, MEASURED_IN_HASTE if slow else MEASURED, seconds, speeds, beside)
    files.write_json(path, {"question": asked.json(), "plan": asdict(plan)})
    return plan


def _read_plan(path: Path, asked: DiagnosisSettings) -> DiagnosisPlan:
    held = files.read_json(path)
    try:
        before, plan = held["question"], held["plan"]
        speeds = {name: Speed(**speed) for name, speed in plan.pop("speeds").items()}
        found = DiagnosisPlan(**plan, speeds=speeds)
    except (TypeError, KeyError, AttributeError):
        raise files.damaged(path, "it is not the plan of a diagnosis of this version") from None
    for name, value in asked.json().items():
        if before.get(name) != value:
            raise RequestError(
                f"{path.parent} holds a diagnosis with {name}={before.get(name)}, not {value}; "
                "repeat that command to continue it, or give another folder with -o"
            )
    return found
