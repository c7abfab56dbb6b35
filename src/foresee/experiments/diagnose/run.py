"""A diagnosis from a question to a folder: plan, train, measure, judge, write."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from foresee.core import files
from foresee.core.errors import ForeseeWarning
from foresee.core.isolation import fresh_torch_state
from foresee.core.spec import resolve
from foresee.datasets.inspection import inspect
from foresee.experiments import machine
from foresee.experiments.diagnose import decisions
from foresee.experiments.diagnose.evidence import baseline_losses, charge_for_length, gather_evidence
from foresee.experiments.diagnose.measure import Estimate, measure_families
from foresee.experiments.diagnose.plan import FORWARD, HIDDEN, DiagnosisPlan, DiagnosisSettings, make_plan
from foresee.experiments.diagnose.result import Diagnosis, choose_examples, summarise
from foresee.experiments.diagnose.timing import Clock
from foresee.experiments.diagnose.verdict import OPEN, judge
from foresee.experiments.engine import Engine
from foresee.experiments.pool import WorkerPool
from foresee.experiments.runner import run_all
from foresee.metrics.base import number_problems
from foresee.objectives.base import objectives
from foresee.tasks.base import Task
from foresee.tasks.data import Data
from foresee.training.data import draw
from foresee.training.examples import say_unread, test_examples, training_data, watched_and_measured
from foresee.training.process import best_device, locked
from foresee.training.progress import Progress
from foresee.training.run import Run

BASELINE_ROWS = 5000
"""Training rows that frequencies of tokens are counted in."""


@fresh_torch_state()
def diagnose(
    asked: DiagnosisSettings,
    task: Task,
    folder: Path,
    *,
    engine: Engine | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
    clock: Clock = time.perf_counter,
    began: float | None = None,
) -> Diagnosis:
    """Answers ``asked`` about ``task`` in ``folder``, or continues to: finished runs there are not run again.

    Runs are trained beside each other on this machine, ``jobs`` at most, unless ``engine`` is another; their number
    decides how many steps fit into the time. ``say`` hears what is done next. ``began`` is when the command did, by
    ``clock``; only speeds and the plan depend on either. The page is for the caller to write. Raises what ``make_plan``
    and ``run_all`` do.
    """
    began = clock() if began is None else began
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        runs = len(asked.objectives) * asked.seeds
        beside = min(runs, jobs or machine.slots(best_device())) if engine is None else 1
        plan = make_plan(asked, task, folder, began, say, clock, beside)
        with _said_once(say_unread(task)):
            trained = run_all(plan.runs(asked), folder / "runs", engine=engine or WorkerPool(jobs=beside),
                              progress=progress)  # fmt: skip
        say("measuring what was learned")
        found = _measure(asked, task, plan, trained, folder, lambda: clock() - began)
        files.write_json(folder / "diagnosis.json", found.json())
    return found


@contextmanager
def _said_once(sentence: str) -> Iterator[None]:
    """Warns with a sentence, unless it is empty, which the runs that are trained within need not say again."""
    if not sentence:
        yield
        return
    warnings.warn(sentence, ForeseeWarning, stacklevel=4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", re.escape(sentence), ForeseeWarning)
        yield


def _measure(
    asked: DiagnosisSettings,
    task: Task,
    plan: DiagnosisPlan,
    runs: Sequence[Run],
    folder: Path,
    taken: Callable[[], float],
) -> Diagnosis:
    # The examples of the runs' final measurements, the same for every seed and objective.
    data = training_data(runs[0].spec, task)
    watched, batch = watched_and_measured(test_examples(runs[0].spec, task, data), runs[0].spec, task)
    batch = batch.trimmed()
    names = {resolve(objectives, name).text: name for name in (FORWARD, HIDDEN)}
    measured = measure_families(runs, batch, folder / "measured")
    families = charge_for_length({names.get(name, name): family for name, family in measured.items()})
    shown, hidden = families[FORWARD].stack("loss"), families[HIDDEN].stack("loss")
    losses = decisions.TokenLosses(shown, hidden, batch.answer_mask(), number_problems(task, batch))
    flags = decisions.flag_tokens(losses)
    places = decisions.find_positions(losses, flags)
    train_rows = draw(task, asked.task, "train", BASELINE_ROWS, 0)
    baseline = baseline_losses(train_rows, batch, len(task.vocab))
    evidence = gather_evidence(
        families, batch, losses, flags, [place["position"] for place in places], baseline, task.chance,
        float(watched.answer_len.double().mean()),
    )  # fmt: skip
    verdict = judge(evidence, asked, plan)
    if not places and verdict.name != OPEN:  # a token that is hard by chance is no decision where nothing confirms it
        flags = decisions.Flags(flags.hard, torch.zeros_like(flags.decision))
    from_start, from_end = (decisions.number_places(losses.mask, from_end=each) for each in (False, True))

    def tabulate(classes: Tensor, key: str, names: Sequence[str] | None = None) -> list[Estimate]:
        return decisions.tabulate(losses, flags.decision, classes, key, names)

    return Diagnosis(
        folder=folder, question=asked, plan=plan, verdict=verdict, evidence=evidence,
        learned=summarise(families, flags.decision.float().mean(0) > 0.5, losses.problems),
        absorbed=decisions.absorbed(losses),
        loss_shown=losses.mean_of_whole(shown), loss_hidden=losses.mean_of_whole(hidden),
        positions=tabulate(from_start, "position"),
        from_end=[] if batch.layout.uniform else tabulate(from_end, "from_end"),
        by_origin=tabulate(decisions.origins(batch, task.end), "class", decisions.ORIGINS),
        by_shape=tabulate(decisions.shapes(batch, task), "class", decisions.SHAPES),
        decision_positions=places, accuracy=decisions.accuracy_by_position(families[FORWARD], losses),
        examples=choose_examples(task, batch, losses, flags),
        data=inspect(task.stored.request) if isinstance(task, Data) else None, held_out=len(batch),
        problems=len(set(losses.problems.tolist())), seconds=taken(),
    )  # fmt: skip
