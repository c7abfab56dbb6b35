"""What is asked of ``foresee diagnose``: a task or a file, the objectives, and how long it may take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foresee.backbones.base import backbones
from foresee.core.errors import RequestError
from foresee.core.spec import describe, resolve
from foresee.objectives.base import objectives
from foresee.tasks.base import Task, tasks
from foresee.tasks.data import Data
from foresee.training.settings import CONTROL

FORWARD, HIDDEN = "next-token", "teacherless"
"""The objective that is on trial, and the one that never sees an earlier answer token."""

WORDS_AT_MOST = 500
"""With tokenizer ``auto``, a file is cut into words where it holds no more different ones, and into characters
otherwise: a small network learns nothing of a word that it rarely sees."""

SMALL = "transformer:layers=3,width=128,heads=4"
"""The default backbone, ``gpt-nano``; it is given a longer context where rows need one."""
SMALL_CONTEXT = 256
SPARE = 64
"""Positions beyond prompt and answer that it is then given, for objectives that read more."""


@dataclass(frozen=True)
class Question:
    """What decides a diagnosis; all specs are canonical. A folder holds the answer to one question."""

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
        lr: float = 1e-3,
        first_seed: int = 0,
    ) -> Question:
        """``others`` are trained beside next-token, reversed and teacherless, which always are. ``steps`` takes the
        place of ``minutes``. Raises ``RequestError`` on the first thing that is wrong."""
        for name, value in (("seeds", seeds), ("batch", batch), ("steps", 1 if steps is None else steps)):
            if value < 1:
                raise RequestError(f"{name}={value} must be at least 1")
        if not 0 < minutes < math.inf:
            raise RequestError(f"minutes={minutes} must be above 0 and finite")
        text = describe(tasks, task)
        names = [resolve(objectives, name).text for name in (FORWARD, CONTROL, HIDDEN, *others)]
        return Question(
            task=text,
            task_digest=resolve(tasks, text).cls.content_digest(resolve(tasks, text).options),
            objectives=tuple(dict.fromkeys(names)),
            backbone=resolve(backbones, backbone or fitting(task)).text,
            seeds=seeds, minutes=float(minutes), steps=steps, batch=batch, lr=float(lr), first_seed=first_seed,
        )  # fmt: skip

    def json(self) -> dict[str, Any]:
        """As it stands in ``plan.json``."""
        return asdict(self) | {"objectives": list(self.objectives)}


def fitting(task: Task) -> str:
    """The small backbone, with a context that holds the task's longest rows."""
    needed = task.prompt_length + task.answer_length + SPARE
    return SMALL if needed - SPARE + 8 <= SMALL_CONTEXT else f"{SMALL},context={-(-needed // 64) * 64}"


def task_of(
    data: str,
    *,
    prompt: str = "prompt",
    response: str = "response",
    tokenizer: str = "auto",
    test: str | None = None,
    skip_bad: bool = False,
    checkpoint: str | None = None,
) -> Task:
    """The task behind ``DATA``: a task spec, or a file, of which the options after it say how it is read.

    ``tokenizer`` may be ``auto``: that of ``checkpoint`` where one is given; otherwise words where the file holds at
    most ``WORDS_AT_MOST`` different ones, else characters. Raises ``RequestError`` where it is neither spec nor file.
    """
    name = data.partition(":")[0]
    known = {*tasks.names(), *tasks.presets()}
    if name in known and not Path(data).is_file():
        return resolve(tasks, data).build()
    if not Path(data).exists():
        raise RequestError(f"{data} is neither a file nor a task; foresee list tasks names the tasks")
    if "," in data:
        raise RequestError(f"{data}: a path cannot hold a comma; link the file under another name")
    options = {"prompt": prompt, "response": response, "skip_bad": str(skip_bad).lower()}
    if test is not None:
        options["test"] = test

    def read(kind: str) -> Data:
        given = "".join(f",{key}={value}" for key, value in (options | {"tokenizer": kind}).items())
        built = resolve(tasks, f"data:{data}{given}").build()
        assert isinstance(built, Data)
        return built

    if tokenizer != "auto":
        return read(tokenizer)
    if checkpoint is not None:
        return read(f"hf:{checkpoint}")
    words = read("words")
    return words if len(words.vocab) <= WORDS_AT_MOST + 3 else read("characters")
