"""A diagnosis from a question to a folder: plan, train, measure, judge, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.spec import brief, resolve
from foresee.datasets.inspection import DataSummary, inspect
from foresee.experiments.diagnose import classes, decisions, tables
from foresee.experiments.diagnose.evidence import baseline_of, gather
from foresee.experiments.diagnose.examples import choose
from foresee.experiments.diagnose.interval import ratio
from foresee.experiments.diagnose.measured import families
from foresee.experiments.diagnose.plan import Plan, settle
from foresee.experiments.diagnose.question import FORWARD, HIDDEN, Question
from foresee.experiments.diagnose.result import Diagnosis, learned_of
from foresee.experiments.diagnose.verdict import judge
from foresee.objectives.base import objectives
from foresee.tasks.base import Task
from foresee.tasks.data import Data
from foresee.training.data import draw
from foresee.training.examples import test_examples, training_data, watched_and_measured
from foresee.training.loop import train
from foresee.training.process import locked
from foresee.training.progress import Progress
from foresee.training.run import Run
from foresee.training.settings import Settings

BASELINE_ROWS = 5000
"""Training rows that frequencies of tokens are counted in."""

Say = Callable[[str], None]
Clock = Callable[[], float]


def diagnose(
    question: Question,
    task: Task,
    folder: Path,
    *,
    progress: Callable[[], Progress] | None = None,
    say: Say = lambda _: None,
    clock: Clock = time.perf_counter,
    began: float | None = None,
) -> Diagnosis:
    """Answers ``question`` about ``task`` in ``folder``, or continues to: finished runs there are not run again.

    ``progress`` makes what each run reports to, ``say`` is told what is done in between, with the time left. ``began``
    is when the command did, by ``clock``; only speeds and times left depend on either. The page is for the caller to
    write. Raises ``RequestError`` and ``ForeseeError`` as ``settle`` and ``train`` do.
    """
    began = clock() if began is None else began
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        plan = settle(question, task, folder, began, say, clock)
        specs = plan.specs(question)
        runs = _train(specs, plan, folder, progress, say)
        say("measuring what was learned")
        found = _measure(question, task, plan, runs, folder, lambda: clock() - began)
        files.write_json(folder / "diagnosis.json", found.json())
    return found


def _train(
    specs: Sequence[Settings], plan: Plan, folder: Path, progress: Callable[[], Progress] | None, say: Say
) -> list[Run]:
    seconds = {name: _seconds(plan, name) for name in {spec.objective for spec in specs}}
    runs = []
    for number, spec in enumerate(specs):
        left = sum(seconds[later.objective] for later in specs[number:] if not _finished(later, folder))
        if not _finished(spec, folder):
            said = f"; about {_minutes(left)} of training left" if left else ""
            name = brief(objectives, spec.objective)
            say(f"run {number + 1} of {len(specs)}: {name}, seed {spec.seed}, {plan.steps:,} steps{said}")
        runs.append(train(spec, folder / "runs", None if progress is None else progress()))
    return runs


def _seconds(plan: Plan, objective: str) -> float:
    speed = plan.speeds.get(objective)
    return 0.0 if speed is None else plan.steps * speed.step + plan.steps / plan.eval_every * speed.evaluation


def _finished(spec: Settings, folder: Path) -> bool:
    return (folder / "runs" / spec.digest / "rows.jsonl").exists()


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} minutes"


def held_out(spec: Settings, task: Task) -> Batch:
    """The examples that are measured: those of the runs' final measurements, the same for every seed and objective."""
    return watched_and_measured(test_examples(spec, task, training_data(spec, task)), spec)[1].trimmed()


def _measure(
    question: Question, task: Task, plan: Plan, runs: Sequence[Run], folder: Path, taken: Callable[[], float]
) -> Diagnosis:
    batch = held_out(runs[0].spec, task)
    found = families(runs, batch, folder / "measured")
    names = {resolve(objectives, name).text: name for name in (FORWARD, HIDDEN)}
    by_name = {names.get(name, name): family for name, family in found.items()}
    shown, hidden, mask = by_name[FORWARD].loss, by_name[HIDDEN].loss, batch.answer_mask()
    flags = decisions.flag(shown, hidden, mask)
    places = decisions.positions(shown, hidden, mask)
    train_rows = draw(task, question.task, "train", BASELINE_ROWS, 0)
    evidence = gather(
        by_name, batch, flags, [place["position"] for place in places],
        baseline_of(train_rows, batch, len(task.vocab)),
    )  # fmt: skip
    most = flags.decision.float().mean(0) > 0.5
    lengths = torch.ones(len(batch))
    origin, shape = classes.origins(batch, task.end), classes.shapes(batch, task)
    return Diagnosis(
        folder=folder,
        question=question,
        plan=plan,
        verdict=judge(evidence),
        evidence=evidence,
        learned=learned_of(by_name, most),
        absorbed=tables.absorbed(shown, hidden),
        loss_shown=ratio(shown.sum(2), lengths),
        loss_hidden=ratio(hidden.sum(2), lengths),
        positions=tables.by_position(shown, hidden, flags.decision, mask),
        from_end=[] if batch.layout.uniform else tables.by_position_from_the_end(shown, hidden, flags.decision, mask),
        by_origin=tables.by_class(shown, hidden, flags.decision, origin, classes.ORIGINS),
        by_shape=tables.by_class(shown, hidden, flags.decision, shape, classes.SHAPES),
        decision_positions=places,
        accuracy=tables.accuracy(by_name[FORWARD], mask),
        examples=choose(task, batch, shown, hidden, flags),
        data=summary_of(task),
        held_out=len(batch),
        seconds=taken(),
    )


def summary_of(task: Task) -> DataSummary | None:
    """Duplicates, contradictions, overlap and bad rows of the file behind a task; None where there is none."""
    if not isinstance(task, Data):
        return None
    return inspect(task.stored.request)
