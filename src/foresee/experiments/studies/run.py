"""Running a study: what is finished is read, what is missing is trained, and the two tables are set side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foresee.core.errors import RequestError
from foresee.core.spec import Resolved, resolve
from foresee.experiments.compare import steps_to_solve
from foresee.experiments.engine import Engine
from foresee.experiments.progress import RunsProgress
from foresee.experiments.runner import run_all, unique
from foresee.experiments.studies.base import RULES, Cell, Scale, Study, check_scale, judge_agreement, studies
from foresee.experiments.studies.result import CellResult, SeedResult, StudyResult, make_claims
from foresee.metrics.intervals import Row
from foresee.metrics.verdict import SOLVED, judge
from foresee.training.run import Run, exact_of, load, read_spec
from foresee.training.settings import Settings

RESULTS = "results"
"""The folder beside the current directory that is looked through for committed runs."""


class FinishedRuns:
    """Finished runs directly in ``runs`` and anywhere below ``results``; each that is asked for is read once.

    A run made on another kind of machine counts: device and precision are the machine's choice, and committed rows must
    count on any. ``warnings`` say what was wrong with folders that cannot be read.
    """

    def __init__(self, runs: Path, results: Iterable[Path]) -> None:
        self.warnings: list[str] = []
        self._folders: dict[object, Path] = {}
        self._read: dict[Path, Run] = {}
        found = [
            *sorted(runs.glob("*/rows.jsonl")),
            *(path for each in results for path in sorted(each.rglob("rows.jsonl"))),
        ]
        for folder in (path.parent for path in found):
            try:
                settings = read_spec(folder)
            except RequestError as error:
                self.warnings.append(str(error))
                continue
            self._folders.setdefault(settings.digest, folder)
            self._folders.setdefault(_on_any_machine(settings), folder)

    def find(self, settings: Settings) -> Run | None:
        """The run of these settings, or None. Raises ``RequestError`` where it is damaged."""
        folder = self._folders.get(settings.digest) or self._folders.get(_on_any_machine(settings))
        if folder is not None and folder not in self._read:
            self._read[folder] = load(folder)
        return None if folder is None else self._read[folder]

    def find_all(self, settings: Iterable[Settings]) -> list[Run]:
        """Those of these runs that are finished."""
        return [run for run in map(self.find, settings) if run is not None]

    def add(self, runs: Iterable[Run]) -> None:
        """Counts these runs as finished too."""
        for run in runs:
            self._folders[run.spec.digest], self._read[run.dir] = run.dir, run


def _on_any_machine(settings: Settings) -> tuple[object, ...]:
    """Equal for settings that differ in nothing but what the machine decides."""
    return tuple(settings.model_dump(exclude={"device", "precision"}).values())


@dataclass(frozen=True)
class Plan:
    """A study at one scale, and which of its runs are there."""

    resolved: Resolved[Study]
    study: Study
    scale: Scale
    cells: tuple[Cell, ...]
    finished: FinishedRuns

    @cached_property
    def runs(self) -> list[Settings]:
        """Every run, controls first, each once."""
        controls = [run for cell in self.cells for run in cell.control_runs]
        return unique([*controls, *(run for cell in self.cells for run in cell.runs)])

    @property
    def missing(self) -> list[Settings]:
        """Runs that are not finished, in the order in which they are trained."""
        return [run for run in self.runs if self.finished.find(run) is None]

    @cached_property
    def minutes(self) -> dict[str, float | None]:
        """What each run takes at most on the study's hardware, by digest."""
        found = {run.digest: cell.minutes for cell in self.cells for run in cell.runs}
        for cell in self.cells:
            for run in cell.control_runs:
                found.setdefault(run.digest, cell.minutes if cell.control_minutes is None else cell.control_minutes)
        return found

    @property
    def minutes_missing(self) -> float | None:
        """Minutes of one core that the missing runs take at most, None where that is not known of one of them."""
        each = [self.minutes[run.digest] for run in self.missing]
        return None if None in each else sum(minutes for minutes in each if minutes is not None)

    def json(self) -> dict[str, Any]:
        """What ``--dry-run --json`` prints."""
        return {
            "study": self.resolved.text, "scale": self.scale, "runs_wanted": len(self.runs),
            "runs_missing": len(self.missing), "minutes": self.minutes_missing,
            "missing": [
                {"run": run.digest, "minutes": self.minutes[run.digest], **run.model_dump()} for run in self.missing
            ],
        }  # fmt: skip


def plan(
    name: str, scale: str = "laptop", runs: str | Path = "runs", results: Sequence[str | Path] | None = None
) -> Plan:
    """What ``study`` would do. Raises ``RequestError`` on an unknown study or scale."""
    resolved = resolve(studies, name)
    built, wanted = resolved.build(), check_scale(scale)
    cells = tuple(built.cells(wanted))
    if results is None:
        results = [RESULTS] if Path(RESULTS).is_dir() else []
    for folder in results:
        if not Path(folder).is_dir():
            raise RequestError(f"--results {folder}: no such folder; name one that holds finished runs")
    return Plan(resolved, built, wanted, cells, FinishedRuns(Path(runs), map(Path, results)))


def study(
    name: str,
    scale: str = "laptop",
    runs: str | Path = "runs",
    results: Sequence[str | Path] | None = None,
    *,
    engine: str | Engine = "local",
    jobs: int | None = None,
    progress: RunsProgress | None = None,
    train: bool = True,
) -> StudyResult:
    """Trains what is missing under ``runs`` and returns the table.

    Finished runs count from ``runs`` and from every folder below those of ``results`` (by default ``results`` beside
    the current directory, where there is one). With ``train=False`` nothing is trained and missing runs are left out.
    ``engine``, ``jobs`` and ``progress`` are as for ``run_all``. Raises ``RequestError`` on what cannot be asked for,
    and what ``run_all`` raises.
    """
    asked = plan(name, scale, runs, results)
    if train and asked.missing:
        asked.finished.add(run_all(asked.missing, runs, engine=engine, jobs=jobs, progress=progress))
    return read(asked)


def read(asked: Plan) -> StudyResult:
    """The table of what is finished."""
    name, built, smaller = asked.resolved.text, asked.study, asked.scale == "laptop"
    chances = {task: run.build_task().chance for task, run in {run.task: run for run in asked.runs}.items()}
    cells = tuple(_read_cell(cell, asked, chances) for cell in asked.cells)
    claims, untested = make_claims(cells, built.baseline)
    finished = asked.finished.find_all(asked.runs)
    return StudyResult(
        name=name, summary=built.summary, question=built.question, scale=asked.scale, cells=cells,
        cost=built.laptop_cost if smaller else built.paper_cost,
        hardware=built.hardware if smaller else "not run here", claims=claims,
        untested=untested, runs_wanted=len(asked.runs), runs_finished=len(finished),
        seconds=sum(run.seconds for run in finished), reproduce=f"foresee study {name} --scale {asked.scale}",
        warnings=tuple(asked.finished.warnings),
    )  # fmt: skip


def _read_cell(cell: Cell, asked: Plan, chances: dict[str, float]) -> CellResult:
    runs, controls = asked.finished.find_all(cell.runs), asked.finished.find_all(cell.control_runs)
    first, published, chance = cell.runs[0], cell.published, chances[cell.runs[0].task]
    seeds = tuple(_read_seed(run, cell.row, chances, controls) for run in runs)
    # Where a guess is the whole answer there is no shortcut to measure, and ``exact`` below chance alone says that
    # candidates are not told from other symbols.
    unfitted = all(seed.verdict == "unfitted" or (cell.row == "exact" and seed.high < chance) for seed in seeds)
    return CellResult(
        graph=cell.graph, label=cell.label, row=cell.row, chance=chance, task=first.task, objective=first.objective,
        backbone=first.backbone, published=published.value, published_low=published.low, published_high=published.high,
        published_text=published.text, published_side=published.find_side(cell.row, chance), source=published.source,
        tag=published.tag, rule=RULES[cell.rule], agreement=judge_agreement(
            cell.rule, published, cell.row, [_rate(run, cell.row) for run in runs], chance,
            smaller=asked.scale == "laptop", unfitted=unfitted,
        ),
        inconclusive=any(seed.inconclusive for seed in seeds), seeds_wanted=len(cell.runs), seeds=seeds,
        controls=tuple(_read_seed(run, "exact", chances, controls) for run in controls), note=cell.note,
    )  # fmt: skip


def _read_seed(run: Run, row: str, chances: dict[str, float], controls: Sequence[Run]) -> SeedResult:
    """One run, whose control is the one with its seed, or all of them where none has it."""
    measured, exact = _rate(run, row), exact_of(run.rows)
    beside = [control for control in controls if control.spec.seed == run.spec.seed] or controls
    solved = all(exact_of(control.rows) >= SOLVED for control in beside) if beside else None
    verdict = judge(run.rows, chances[run.spec.task], solved)
    return SeedResult(
        seed=run.spec.seed, run=run.spec.digest, dir=str(run.dir), value=measured["value"], low=measured["low"],
        high=measured["high"], n=measured["n"], exact=exact, solved=exact >= SOLVED, verdict=verdict.name,
        inconclusive=verdict.inconclusive, because=verdict.because, steps=run.steps, solved_at=steps_to_solve(run),
        seconds=run.seconds,
    )  # fmt: skip


def _rate(run: Run, row: str) -> Row:
    measured = run.rows.get(row)
    if not isinstance(measured, dict) or not {"low", "high"} <= measured.keys():
        raise RequestError(
            f"{run.dir} has no rate {row!r}, which the study compares; it may be of another version: delete it and run "
            "the study again"
        )
    return measured
