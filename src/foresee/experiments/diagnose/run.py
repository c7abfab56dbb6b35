"""A diagnosis from a question to a folder: plan, train, measure, judge, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from foresee.core import files
from foresee.core.errors import ForeseeError
from foresee.core.spec import brief, resolve
from foresee.datasets.inspection import inspect
from foresee.experiments.diagnose import decisions
from foresee.experiments.diagnose.evidence import baseline_loss, gather_evidence
from foresee.experiments.diagnose.measure import measure_families, ratio
from foresee.experiments.diagnose.plan import FORWARD, HIDDEN, Clock, DiagnosisSettings, Plan, make_plan
from foresee.experiments.diagnose.result import Diagnosis, choose_examples, summarise
from foresee.experiments.diagnose.verdict import judge
from foresee.experiments.engine import Engine, InProcess
from foresee.experiments.progress import RunsProgress
from foresee.experiments.runner import is_finished, run_all
from foresee.objectives.base import objectives
from foresee.tasks.base import Task
from foresee.tasks.data import Data
from foresee.training.data import draw
from foresee.training.examples import test_examples, training_data, watched_and_measured
from foresee.training.process import locked
from foresee.training.run import Run
from foresee.training.settings import Settings

BASELINE_ROWS = 5000
"""Training rows that frequencies of tokens are counted in."""


def diagnose(
    asked: DiagnosisSettings,
    task: Task,
    folder: Path,
    *,
    engine: Engine | None = None,
    say: Callable[[str], None] = lambda _: None,
    clock: Clock = time.perf_counter,
    began: float | None = None,
) -> Diagnosis:
    """Answers ``asked`` about ``task`` in ``folder``, or continues to: finished runs there are not run again.

    Runs are trained one after the other in this process, as their speed was measured, unless ``engine`` is another.
    ``say`` hears what is done next, with the time left. ``began`` is when the command did, by ``clock``; only speeds
    and times left depend on either. The page is for the caller to write. Raises what ``make_plan`` and ``run_all`` do.
    """
    began = clock() if began is None else began
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        plan = make_plan(asked, task, folder, began, say, clock)
        wanted, root = plan.runs(asked), folder / "runs"
        runs = run_all(wanted, root, engine=engine or InProcess(), progress=Announcer(plan, wanted, root, say))
        say("measuring what was learned")
        found = _measure(asked, task, plan, runs, folder, lambda: clock() - began)
        files.write_json(folder / "diagnosis.json", found.json())
    return found


class Announcer(RunsProgress):
    """Says which run begins, and how much training is left."""

    def __init__(self, plan: Plan, wanted: Sequence[Settings], root: Path, say: Callable[[str], None]) -> None:
        self._plan, self._wanted, self._say = plan, list(wanted), say
        self._left = [run for run in wanted if not is_finished(run, root)]

    def start(self, settings: Settings, step: int) -> None:
        speeds, steps = [self._plan.speeds.get(run.objective) for run in self._left], self._plan.steps
        evaluations = steps / self._plan.eval_every
        left = sum(steps * each.step + evaluations * each.evaluation for each in speeds if each is not None)
        about = f"{left:.0f} s" if left < 90 else f"{left / 60:.1f} minutes"
        self._say(
            f"run {self._wanted.index(settings) + 1} of {len(self._wanted)}: {brief(objectives, settings.objective)}, "
            f"seed {settings.seed}, {steps:,} steps" + (f"; about {about} of training left" if left else "")
        )

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._left.remove(settings)


def _measure(
    asked: DiagnosisSettings, task: Task, plan: Plan, runs: Sequence[Run], folder: Path, taken: Callable[[], float]
) -> Diagnosis:
    # The examples of the runs' final measurements, the same for every seed and objective.
    data = training_data(runs[0].spec, task)
    batch = watched_and_measured(test_examples(runs[0].spec, task, data), runs[0].spec, task.group)[1].trimmed()
    names = {resolve(objectives, name).text: name for name in (FORWARD, HIDDEN)}
    measured = measure_families(runs, batch, folder / "measured")
    families = {names.get(name, name): family for name, family in measured.items()}
    forced, hidden, mask = families[FORWARD].stack("loss"), families[HIDDEN].stack("loss"), batch.answer_mask()
    flags = decisions.flag_tokens(forced, hidden, mask)
    places = decisions.find_positions(forced, hidden, mask)
    train_rows = draw(task, asked.task, "train", BASELINE_ROWS, 0)
    baseline = baseline_loss(train_rows, batch, len(task.vocab))
    evidence = gather_evidence(families, batch, flags, [place["position"] for place in places], baseline)
    ones = torch.ones(len(batch))
    losses = (forced, hidden, flags.decision)
    from_start, from_end = (decisions.number_places(mask, from_end=each) for each in (False, True))
    return Diagnosis(
        folder=folder, question=asked, plan=plan, verdict=judge(evidence), evidence=evidence,
        learned=summarise(families, flags.decision.float().mean(0) > 0.5),
        absorbed=decisions.absorbed(forced, hidden),
        loss_shown=ratio(forced.sum(2), ones), loss_hidden=ratio(hidden.sum(2), ones),
        positions=decisions.tabulate(*losses, from_start, "position"),
        from_end=[] if batch.layout.uniform else decisions.tabulate(*losses, from_end, "from_end"),
        by_origin=decisions.tabulate(*losses, decisions.origins(batch, task.end), "class", decisions.ORIGINS),
        by_shape=decisions.tabulate(*losses, decisions.shapes(batch, task), "class", decisions.SHAPES),
        decision_positions=places, accuracy=decisions.accuracy_by_position(families[FORWARD], mask),
        examples=choose_examples(task, batch, forced, hidden, flags),
        data=inspect(task.stored.request) if isinstance(task, Data) else None, held_out=len(batch), seconds=taken(),
    )  # fmt: skip
