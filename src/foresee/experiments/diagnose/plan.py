"""The plan of a diagnosis: its runs, settled once and kept in ``plan.json``, so that the same command continues it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.experiments.diagnose.budget import Speed, fit
from foresee.experiments.diagnose.question import Question
from foresee.experiments.diagnose.speed import Clock, measure_speed
from foresee.tasks.base import Task
from foresee.training.data import TrainingData
from foresee.training.examples import test_examples, training_data, watched_and_measured
from foresee.training.settings import Settings

MEASURED = 1000
"""Held-out examples of the final measurement."""

MEASURED_IN_HASTE = 250
"""As many where decoding is so slow that measuring would take more than a quarter of the time."""

ROWS = "fixed:200000"


@dataclass(frozen=True)
class Plan:
    """Settled numbers of a diagnosis. ``seconds`` is what all of it should take, where that was measured."""

    steps: int
    eval_every: int
    test: int
    seconds: float | None
    speeds: dict[str, Speed]

    def json(self) -> dict[str, Any]:
        """As it stands in ``plan.json``."""
        return asdict(self)

    def specs(self, question: Question) -> list[Settings]:
        """All runs, seed by seed, so that an interrupted diagnosis has whole seeds."""
        base = _spec(question, self.steps, self.eval_every, self.test)
        seeds = range(question.first_seed, question.first_seed + question.seeds)
        return [base.replace(objective=name, seed=seed) for seed in seeds for name in question.objectives]


def settle(
    question: Question, task: Task, folder: Path, began: float, say: Callable[[str], None], clock: Clock
) -> Plan:
    """The plan in ``folder``, or a new one that is put there. ``began`` is when the command did, by ``clock``.

    Raises ``RequestError`` where the folder belongs to another question, a run is impossible, or the time is too short.
    """
    path = folder / "plan.json"
    if path.exists():
        return _read(path, question)
    data, checked = _checked(question, task)
    if question.steps is not None:
        plan = Plan(question.steps, max(10, question.steps // 20), MEASURED, None, {})
    else:
        plan = _timed(question, task, data, checked, began, say, clock)
    files.write_json(path, {"question": question.json(), "plan": plan.json()})
    return plan


def _spec(question: Question, steps: int, eval_every: int, test: int) -> Settings:
    return Settings.of(
        question.task, question.objectives[0], question.backbone,
        steps=steps, batch=question.batch, lr=question.lr, data=ROWS, test=test, eval_every=eval_every,
        warmup=min(100, steps // 10),
    )  # fmt: skip


def _checked(question: Question, task: Task) -> tuple[TrainingData, list[Settings]]:
    """A spec for each objective, every one of which can be built, before anything is trained."""
    base = _spec(question, 1, 1, MEASURED)
    specs = [base.with_objective(name) for name in question.objectives]
    for spec in specs:
        spec.build_objective(task)
    return training_data(base, task), specs


def _timed(
    question: Question,
    task: Task,
    data: TrainingData,
    specs: list[Settings],
    began: float,
    say: Callable[[str], None],
    clock: Clock,
) -> Plan:
    watched, _ = watched_and_measured(test_examples(specs[0], task, data), specs[0])
    whole = question.minutes * 60
    speeds: dict[str, Speed] = {}
    for spec in specs:
        say(f"measuring the speed of {spec.objective}")
        speeds[spec.objective] = measure_speed(spec, task, data, watched, whole, clock)
    left = whole - (clock() - began)
    slow = 5 * question.seeds * sum(speed.evaluation for speed in speeds.values()) > whole / 4
    budget = fit(speeds, question.seeds, left)
    return Plan(budget.steps, budget.eval_every, MEASURED_IN_HASTE if slow else MEASURED, budget.seconds, speeds)


def _read(path: Path, question: Question) -> Plan:
    held = files.read_json(path)
    try:
        asked, plan = held["question"], held["plan"]
        speeds = {name: Speed(**speed) for name, speed in plan.pop("speeds").items()}
        found = Plan(**plan, speeds=speeds)
    except (TypeError, KeyError, AttributeError):
        raise files.damaged(path, "it is not the plan of a diagnosis of this version") from None
    for name, value in question.json().items():
        if asked.get(name) != value:
            raise RequestError(
                f"{path.parent} holds a diagnosis with {name}={asked.get(name)}, not {value}; "
                "repeat that command to continue it, or give another folder with -o"
            )
    return found
