"""Runs of models that follow a script, in folders as training leaves them, and what is right to say of each.

Everything behind training is the package's own: test problems, measurements, files, and the verdict with its doubts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scripted import (
    Babbler,
    Backward,
    Follower,
    GoalCopier,
    Memoriser,
    Parallel,
    ParallelGuesser,
    ParallelWalker,
    Planner,
    Scripted,
    Slipping,
    WeakPosition,
    known,
)

from foresee.core import files
from foresee.metrics.base import Row
from foresee.tasks.path_star import PathStar
from foresee.training.evaluate import measure_trained
from foresee.training.examples import WATCHED, draw_problems, first_trained, training_data, watched_and_measured
from foresee.training.run import Run, find_runs
from foresee.training.settings import Settings

TWO, FIVE, TWENTY = (f"path-star:degree={degree},length=5,nodes=100,goals=one" for degree in (2, 5, 20))
TWO_ALL, FIVE_ALL, TWENTY_ALL = (task.replace("=one", "=all") for task in (TWO, FIVE, TWENTY))
Doubt = Literal["control", "shallow", "falling"]
SAID: dict[Doubt, str] = {"control": "positive control", "shallow": "layers and the decision", "falling": "falling"}
"""What each doubt says, and no other."""


@dataclass(frozen=True)
class Planted:
    """A scripted model, and the ``verdict`` and ``doubts`` that are right of its run."""

    what: str
    verdict: str
    model: Callable[[PathStar], Scripted] | None
    """None is a memoriser of the run's own training examples, at ``rate`` elsewhere."""
    task: str = TWO
    objective: str = "next-token"
    layers: int = 6
    control: Literal["solved", "failed", "none"] = "solved"
    falls: bool = False
    helper: bool = False
    """Whether another objective that decides forwards solved the task on this backbone."""
    doubts: tuple[Doubt, ...] = ()
    rate: float | None = None
    walks: bool = True


def at(rate: float, kind: type[Follower]) -> Callable[[PathStar], Scripted]:
    """Models that take the decision rightly at this rate."""
    return lambda task: kind(task, rate=rate)


PLANTED = [
    Planted("planner", "solved", Planner),
    Planted("planner, d=20", "solved", Planner, TWENTY),
    Planted("planner, control not run", "solved", Planner, control="none"),
    Planted("planner backwards", "solved", Backward, objective="reversed"),
    Planted("planner in parallel", "solved", Parallel, objective="teacherless"),
    Planted("slips once in 200 tokens", "solved", lambda task: Slipping(task, sure=0.995)),
    Planted("follower", "clever-hans", Follower),
    Planted("follower, d=5", "clever-hans", Follower, FIVE),
    Planted("follower, d=20", "clever-hans", Follower, TWENTY),
    Planted("follower, d=2, all goals", "clever-hans", Follower, TWO_ALL),
    Planted("follower, d=5, all goals", "clever-hans", Follower, FIVE_ALL),
    Planted("follower, d=20, all goals", "clever-hans", Follower, TWENTY_ALL),
    Planted("follower that copies the goal (child .875)", "clever-hans", GoalCopier),
    *(Planted(f"the same, exact {rate}", "clever-hans", at(rate, GoalCopier)) for rate in (0.4792, 0.4926, 0.504)),
    Planted("half planner .56", "partial", at(0.56, Follower)),
    Planted("half planner .09, d=20", "partial", at(0.09, Follower), TWENTY),
    Planted("half planner .09, d=20, all goals", "partial", at(0.09, Follower), TWENTY_ALL),
    Planted("always the wrong arm", "partial", at(0.0, Follower)),
    Planted("memoriser, .48 elsewhere", "memorised", None, rate=0.48),
    Planted("memoriser, .508 elsewhere", "memorised", None, rate=0.508),
    Planted("memoriser, d=20", "memorised", None, TWENTY),
    Planted("memoriser that wanders elsewhere", "memorised", None, walks=False),
    Planted("compounder", "compounding", lambda task: Slipping(task, sure=0.97)),
    Planted("one weak position", "partial", lambda task: WeakPosition(task, sure=0.92)),
    Planted("slips once in nine tokens", "partial", lambda task: Slipping(task, sure=0.89)),
    Planted("slips twice in five tokens", "unfitted", lambda task: Slipping(task, sure=0.6)),
    Planted("babbler", "unfitted", Babbler),
    Planted("parallel decider", "undecided", ParallelGuesser, objective="teacherless"),
    Planted("parallel decider, d=20", "undecided", ParallelGuesser, TWENTY, objective="teacherless"),
    *(
        Planted(f"parallel decider, exact {rate}", "undecided", at(rate, ParallelGuesser), objective="teacherless")
        for rate in (0.4792, 0.4926, 0.504)
    ),
    Planted("parallel decider of a whole arm", "undecided", ParallelWalker, objective="teacherless"),
    Planted("follower, still falling", "clever-hans", Follower, falls=True, doubts=("falling",)),
    Planted("follower, too shallow", "clever-hans", Follower, layers=3, doubts=("shallow",)),
    Planted("follower, shallow, another solved", "clever-hans", Follower, layers=3, helper=True),
    Planted("follower, control failed", "clever-hans", Follower, control="failed", doubts=("control",)),
    Planted("babbler, control not run", "unfitted", Babbler, control="none", doubts=("control",)),
    Planted(
        "babbler, nothing in its favour", "unfitted", Babbler, layers=2, control="failed", falls=True,
        doubts=("control", "shallow", "falling"),
    ),
]  # fmt: skip


def plant(folder: Path, planted: Planted, draw: int, test: int = 20_000) -> Run:
    """The planted run as ``find_runs`` reads it, beside its control; ``draw`` numbers the draw of test problems, and
    is its seed."""
    settings = {"steps": 1000, "batch": 200, "data": "fixed:1000", "seed": draw}
    backbone = f"transformer:layers={planted.layers},width=32,heads=2"
    spec = Settings.of(planted.task, planted.objective, backbone, test=test, **settings)
    if planted.control != "none" and planted.objective != "reversed":
        _write(folder, spec.control().replace(test=400), Backward if planted.control == "solved" else Babbler, draw)
    if planted.helper:
        _write(folder, spec.replace(objective="belief-state", test=400), Planner, draw)
    model = planted.model
    if model is None:
        task = spec.build_task()
        assert isinstance(task, PathStar)
        memory = known(first_trained(training_data(spec, task), spec, spec.steps, 1000).prompts)
        model = lambda task: Memoriser(task, memory, walks=planted.walks, rate=planted.rate)  # noqa: E731  # one of two
    _write(folder, spec, model, draw, falls=planted.falls)
    (run,) = (each for each in find_runs(folder) if isinstance(each, Run) and each.spec == spec)
    return run


def name_doubts(run: Run) -> tuple[Doubt, ...]:
    """Which doubts the run's verdict says."""
    return tuple(name for name, words in SAID.items() if any(words in doubt for doubt in run.verdict.doubts))


def _write(
    folder: Path, spec: Settings, model: Callable[[PathStar], Scripted], draw: int, *, falls: bool = False
) -> None:
    """A finished run's folder, whose model is a script."""
    task, directory = spec.build_task(), folder / spec.digest
    assert isinstance(task, PathStar)
    _, test = watched_and_measured(draw_problems(task, spec.task, WATCHED + spec.test, draw), spec, task)
    directory.mkdir(parents=True)
    files.write_json(directory / "spec.json", spec.model_dump())
    files.write_json(directory / "env.json", {"chance": task.chance, "hops": task.hops, "layers": spec.layers})
    results = measure_trained(spec, task, model(task), training_data(spec, task), test, spec.steps)
    exact: Row = results.rows["exact"]  # type: ignore[assignment]  # a rate, not a list
    for step in range(100, spec.steps + 1, 100):
        # Either a loss that has been at its end for long, but for noise, or one that still falls.
        loss = 0.3 - (step / 1e4 if falls else 0.001 * (step % 300 == 0))
        line = {
            "step": step, "examples": step * spec.batch, "loss": loss, "parts": {"all": loss}, "lr": spec.lr,
            "position_loss": [loss] * task.length, "eval": {"n": WATCHED, "exact": exact["value"]},
        }  # fmt: skip
        files.append_json_line(directory / "metrics.jsonl", line)
        timing = {"step": step, "seconds": step / 10, "examples_per_second": 2000.0}
        files.append_json_line(directory / "timing.jsonl", timing)
    results.save(directory)
