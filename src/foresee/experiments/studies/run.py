"""Running a study: what is finished is read, what is missing is trained, and the two tables are set side by side."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, get_args

from typing_extensions import Unpack

from foresee.core.errors import RequestError
from foresee.core.plugins import is_own, loaded_plugin_options
from foresee.core.spec import Resolved, resolve
from foresee.experiments.compare import steps_to_reach, steps_to_solve
from foresee.experiments.runner import TrainingOptions, run_all, unique
from foresee.experiments.studies.base import RULES, Cell, Scale, Study, check_scale, judge_agreement, studies
from foresee.experiments.studies.result import BegunSeed, CellResult, SeedResult, StudyResult, make_claims
from foresee.metrics.control import list_doubts
from foresee.metrics.intervals import Row
from foresee.metrics.verdict import RELIABLE, SOLVED, judge
from foresee.training.records import value_of
from foresee.training.run import Run, read_run
from foresee.training.settings import Settings
from foresee.training.witnesses import Witness, find_witnesses, runs_option

FIRST = ("defaults", "objectives", "objective-best", "pitfalls-reversed", "pitfalls-next-token", "first-token",
         "structure", "graph-size")  # fmt: skip
"""The studies that ``study all`` trains first; the others follow by name."""
RESULTS = "results"
"""The folder of committed runs: in the current directory, in a checkout, and in an installed package."""
OTHER_DEVICE = "other-device"
"""The folder in it of runs that were made a second time on another kind of device, which count in no study."""


@dataclass
class StudyPlan:
    """A study at one scale, and which of its runs are finished, or begun and not finished, by digest.

    A run made on another kind of machine counts: device and precision are the machine's choice, and committed rows must
    count on any. ``searched`` are the folders that were looked through, ``warnings`` say what could not be read there.
    """

    resolved: Resolved[Study]
    study: Study
    scale: Scale
    cells: list[Cell]
    root: Path = Path("runs")
    """The folder that its missing runs are trained into."""
    searched: list[Path] = field(default_factory=list)
    finished: dict[str, Run] = field(default_factory=dict)
    begun: dict[str, Run] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    """In which runs lie."""

    def search(self, folders: Iterable[Path]) -> None:
        """Counts what is finished below these folders."""
        for folder in filter(Path.is_dir, folders):
            self.searched += [folder] if folder not in self.searched else []
            places: dict[str, list[Path]] = {}
            for path in sorted(folder.rglob("spec.json")):
                if OTHER_DEVICE not in path.relative_to(folder).parts:
                    places.setdefault(path.parent.name, []).append(path.parent)
                    self.folders.add(path.parent.parent)
            for each in self.runs:
                for place in (place for digest in _digests(each) for place in places.get(digest, ())):
                    if each.digest not in self.finished:
                        self._read(each, place)

    def _read(self, settings: Settings, place: Path) -> None:
        try:
            run = read_run(place)
        except RequestError as error:
            self.warnings.append(str(error))
            return
        if run.rows:
            self.finished[settings.digest] = run
            self.begun.pop(settings.digest, None)
        elif run.metrics:
            self.begun.setdefault(settings.digest, run)

    def find(self, settings: Iterable[Settings]) -> list[Run]:
        """Those of these runs that are finished."""
        return [self.finished[each.digest] for each in settings if each.digest in self.finished]

    @cached_property
    def runs(self) -> list[Settings]:
        """Every run, each once: seed by seed, so that a study cut short has something of every cell, and cell by cell,
        each after its controls."""
        every = unique([run for cell in self.cells for run in (*cell.control_runs, *cell.runs)])
        return sorted(every, key=lambda run: run.seed)

    @property
    def missing(self) -> list[Settings]:
        """Runs that are not finished, in the order in which they are trained."""
        return [run for run in self.runs if not self.find([run])]

    @cached_property
    def minutes(self) -> dict[str, float | None]:
        """What each run takes at most on the study's hardware, by digest; at paper scale nobody has measured that.

        All of its steps, at the median speed of the finished runs of its row, else what the study states of it.
        """
        if self.scale == "paper":
            return dict.fromkeys(run.digest for run in self.runs)
        stated = [(cell.runs, cell.minutes) for cell in self.cells]
        stated += [
            (cell.control_runs, cell.minutes if cell.control_minutes is None else cell.control_minutes)
            for cell in self.cells
        ]
        found: dict[str, float | None] = {}
        for runs, minutes in stated:
            speeds = [run.seconds / run.steps for run in self.find(runs) if run.spec.device == "cpu"]
            for run in runs:
                found.setdefault(run.digest, run.steps * median(speeds) / 60 if speeds else minutes)
        return found

    def find_witnesses(self) -> list[Witness]:
        """Every finished run that lies beside those of the study, whatever study it is of."""
        return [witness for folder in sorted(self.folders) for witness in find_witnesses(folder)]

    @property
    def cost(self) -> str:
        """What all of its runs take at most, at laptop scale those that other studies share included."""
        laptop = f"{len(self.runs)} runs, controls included, {describe_minutes(self._minutes_of(self.runs))}"
        return laptop if self.scale == "laptop" else self.study.paper_cost

    @property
    def minutes_missing(self) -> float | None:
        """Minutes of one core that the missing runs take at most, None where that is not known of one of them."""
        return self._minutes_of(self.missing)

    def _minutes_of(self, runs: Iterable[Settings]) -> float | None:
        each = [self.minutes[run.digest] for run in runs]
        return None if None in each else sum(minutes for minutes in each if minutes is not None)

    def json(self) -> dict[str, Any]:
        """What ``--dry-run --json`` prints."""
        missing = [{"run": run.digest, "minutes": self.minutes[run.digest], **run.model_dump()} for run in self.missing]
        return {
            "study": self.resolved.text, "scale": self.scale, "runs_wanted": len(self.runs),
            "runs_missing": len(missing), "minutes": self.minutes_missing, "missing": missing,
        }  # fmt: skip


def _digests(settings: Settings) -> list[str]:
    """The names of a run on every kind of machine, in an order that is the same on each of them."""
    devices, precisions = (get_args(Settings.model_fields[name].annotation) for name in ("device", "precision"))
    kinds = [{"device": device, "precision": precision} for device in devices for precision in precisions]
    return [settings.model_copy(update=kind).digest for kind in kinds]


def describe_minutes(minutes: float | None) -> str:
    """What training takes, for people."""
    if minutes is None:
        return "how long that takes was never measured"
    about = (
        "less than a minute" if minutes < 1 else f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} h"
    )
    return f"{about} of one core at most"


def committed() -> list[Path]:
    """The folders of committed runs: ``results`` here, and the one that came with this package."""
    package = Path(__file__).resolve().parents[2]
    here, *others = (folder / RESULTS for folder in (Path(), package, package.parents[1]))
    return [here, *(folder for folder in others if folder.is_dir() and folder != here.resolve())]


def plan(
    name: str, scale: str = "laptop", runs: str | Path = "runs", results: Sequence[str | Path] | None = None
) -> StudyPlan:
    """What ``foresee.study`` would do. Raises ``RequestError`` on an unknown study or scale."""
    resolved, wanted = resolve(studies, name), check_scale(scale)
    built = resolved.build()
    made = StudyPlan(resolved, built, wanted, built.cells(wanted), Path(runs))
    for folder in results or ():
        if not Path(folder).is_dir():
            raise RequestError(f"--results {folder}: no such folder; name one that holds finished runs")
    made.search(map(Path, [runs, *(committed() if results is None else results)]))
    return made


def plan_every(
    scale: str = "laptop", runs: str | Path = "runs", results: Sequence[str | Path] | None = None
) -> tuple[list[StudyPlan], list[str]]:
    """``plan`` of each study, the cheapest and most telling first; and a sentence for each that cannot be asked for, as
    where a checkpoint is missing."""
    plans, refused = [], []
    for name in [*FIRST, *(name for name in studies.names() if name not in FIRST)]:
        try:
            plans.append(plan(name, scale, runs, results))
        except RequestError as error:
            refused.append(f"{name}: {error}")
    return plans, refused


def train_missing(plans: Sequence[StudyPlan], runs: str | Path = "runs", **how: Unpack[TrainingOptions]) -> None:
    """Trains what is missing of studies under ``runs`` as one sweep, in the order of the plans."""
    if missing := unique([run for each in plans for run in each.missing]):
        run_all(missing, runs, **how)
        for each in plans:
            each.search([Path(runs)])


def read(asked: StudyPlan) -> StudyResult:
    """The table of what is finished."""
    name, built, smaller = asked.resolved.text, asked.study, asked.scale == "laptop"
    plugins = loaded_plugin_options() if is_own(asked.resolved.cls) else []
    chances = {task: run.build_task().chance for task, run in {run.task: run for run in asked.runs}.items()}
    witnesses = asked.find_witnesses()
    cells = tuple(_read_cell(cell, asked, chances, witnesses) for cell in asked.cells)
    claims, untested = make_claims(cells, built.baseline)
    finished = asked.find(asked.runs)
    return StudyResult(
        name=name, summary=built.summary, question=built.question, scale=asked.scale, cells=cells,
        cost=asked.cost, hardware=built.hardware if smaller else "not run here", claims=claims,
        untested=untested, runs_wanted=len(asked.runs), runs_finished=len(finished),
        seconds=sum(run.seconds for run in finished if run.spec.device == "cpu"),
        reproduce=shlex.join(
            ["foresee", "study", name, "--scale", asked.scale, "--train", *runs_option(asked.root), *plugins]
        ),
        searched=tuple(map(str, asked.searched)), minutes_missing=asked.minutes_missing,
        warnings=tuple(asked.warnings), look_ups=built.look_ups,
    )  # fmt: skip


def _read_cell(cell: Cell, asked: StudyPlan, chances: dict[str, float], witnesses: Sequence[Witness]) -> CellResult:
    runs, controls = asked.find(cell.runs), asked.find(cell.control_runs)
    begun = [asked.begun[each.digest] for each in cell.runs if each.digest in asked.begun]
    vouching = () if cell.controls is None else controls
    first, published, chance = cell.runs[0], cell.published, chances[cell.runs[0].task]
    seeds = tuple(_read_seed(run, cell.row, chances, witnesses, vouching) for run in runs)
    # Where a guess is the whole answer there is no shortcut to measure, and ``exact`` below chance alone says that
    # candidates are not told from other symbols.
    unfitted = all(seed.verdict == "unfitted" or (cell.row == "exact" and seed.high < chance) for seed in seeds)
    return CellResult(
        graph=cell.graph, label=cell.label, row=cell.row, chance=chance, task=first.task, objective=first.objective,
        backbone=first.backbone, published=published.value, published_low=published.low, published_high=published.high,
        published_text=published.text, published_side=published.find_side(cell.row, chance), source=published.source,
        tag=published.tag, rule=RULES[cell.rule], agreement=judge_agreement(
            cell.rule, published, cell.row, [_rate(run, cell.row) for run in runs], chance,
            smaller=asked.scale == "laptop", unfitted=unfitted, unfinished=bool(begun),
        ),
        inconclusive=any(seed.inconclusive for seed in seeds), seeds_wanted=len(cell.runs), seeds=seeds,
        begun=tuple(BegunSeed(run.spec.seed, run.metrics[-1]["step"], steps_to_solve(run)) for run in begun),
        controls=tuple(_read_seed(run, "exact", chances, witnesses) for run in controls), note=cell.note,
    )  # fmt: skip


def _read_seed(
    run: Run, row: str, chances: dict[str, float], witnesses: Sequence[Witness], controls: Sequence[Run] = ()
) -> SeedResult:
    """One run, whose control is found as for any run, unless the study names ``controls`` of another kind: then it is
    the one of them with its seed, or all of them where none has it."""
    measured, exact = _rate(run, row), _rate(run, "exact")
    known = run.describe_circumstances(witnesses)
    if beside := [control for control in controls if control.spec.seed == run.spec.seed] or controls:
        known = replace(known, control_solved=all(value_of(control.rows) >= SOLVED for control in beside))
    verdict = judge(run.rows, chances[run.spec.task], list_doubts(known))
    return SeedResult(
        seed=run.spec.seed, run=run.spec.digest, dir=str(run.dir), value=measured["value"], low=measured["low"],
        high=measured["high"], n=measured["n"], effective=measured.get("effective", measured["n"]),
        exact=exact["value"],
        exact_effective=exact.get("effective", exact["n"]), solved=exact["value"] >= SOLVED,
        verdict=verdict.name, inconclusive=verdict.inconclusive, doubts=verdict.doubts, because=verdict.because,
        steps=run.steps, solved_at=steps_to_solve(run), seconds=run.seconds,
        look_ups_at=steps_to_reach(run, "rest", RELIABLE),
    )  # fmt: skip


def _rate(run: Run, row: str) -> Row:
    measured = run.rows.get(row)
    if not isinstance(measured, dict) or not {"low", "high"} <= measured.keys():
        raise RequestError(
            f"{run.dir} has no rate {row!r}, which the study compares; it may be of another version: delete it and run "
            "the study again"
        )
    return measured
