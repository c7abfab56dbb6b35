"""Running a study: what is missing is trained, what is finished is read, and the two tables are set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foresee.core.errors import RequestError
from foresee.core.spec import Resolved, resolve
from foresee.experiments.compare import steps_to_solve
from foresee.experiments.engine import Engine
from foresee.experiments.progress import RunsProgress
from foresee.experiments.runner import run_all
from foresee.experiments.studies.agreement import judge_agreement
from foresee.experiments.studies.base import Cell, Scale, Study, check_scale, studies, unique
from foresee.experiments.studies.claims import claims
from foresee.experiments.studies.finished import Finished, finished_runs
from foresee.experiments.studies.result import CellResult, SeedResult, StudyResult
from foresee.metrics.intervals import Row
from foresee.metrics.verdict import SOLVED, judge
from foresee.training.run import Run, load
from foresee.training.settings import Settings

RESULTS = "results"
"""The folder beside the current directory that is looked through for committed runs."""


@dataclass(frozen=True)
class Plan:
    """A study at one scale, and which of its runs are there."""

    resolved: Resolved[Study]
    study: Study
    scale: Scale
    cells: tuple[Cell, ...]
    finished: Finished

    @cached_property
    def specs(self) -> list[Settings]:
        """Every run, controls first, each once."""
        controls = [spec for cell in self.cells for spec in cell.control_specs]
        return unique([*controls, *(spec for cell in self.cells for spec in cell.specs)])

    @cached_property
    def missing(self) -> list[Settings]:
        """Runs that are not finished, in the order in which they are trained."""
        return [spec for spec in self.specs if self.finished.find(spec) is None]

    @cached_property
    def minutes(self) -> dict[str, float | None]:
        """What each run takes at most on the study's hardware, by digest."""
        found: dict[str, float | None] = {}
        for cell in self.cells:
            for spec in cell.specs:
                found[spec.digest] = cell.minutes
        for cell in self.cells:
            for spec in cell.control_specs:
                found.setdefault(spec.digest, cell.minutes if cell.control_minutes is None else cell.control_minutes)
        return found

    @property
    def minutes_missing(self) -> float | None:
        """Minutes of one core that the missing runs take at most, None where that is not known of one of them."""
        each = [self.minutes[spec.digest] for spec in self.missing]
        known = [minutes for minutes in each if minutes is not None]
        return sum(known) if len(known) == len(each) else None


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
    return Plan(resolved, built, wanted, cells, finished_runs(Path(runs), [Path(folder) for folder in results]))


def plan_json(asked: Plan) -> dict[str, Any]:
    """What ``--dry-run --json`` prints."""
    return {
        "study": asked.resolved.text, "scale": asked.scale, "runs_wanted": len(asked.specs),
        "runs_missing": len(asked.missing), "minutes": asked.minutes_missing,
        "missing": [
            {"run": spec.digest, "minutes": asked.minutes[spec.digest], **spec.model_dump()}
            for spec in asked.missing
        ],
    }  # fmt: skip


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
    ``engine``, ``jobs`` and ``progress`` are as for ``run_all``. Raises ``RequestError`` on what
    cannot be asked for, and what ``run_all`` raises.
    """
    asked = plan(name, scale, runs, results)
    if train and asked.missing:
        run_all(asked.missing, runs, engine=engine, jobs=jobs, progress=progress)
        asked = plan(name, scale, runs, results)
    return read(asked)


def read(asked: Plan) -> StudyResult:
    """The table of what is finished."""
    reader = _Reader(asked.finished, asked.scale)
    cells = tuple(map(reader.cell, asked.cells))
    name = asked.resolved.text
    made, untested = claims(cells, asked.study.baseline)
    return StudyResult(
        name=name,
        summary=asked.study.summary,
        question=asked.study.question,
        scale=asked.scale,
        cost=asked.study.cost[asked.scale],
        hardware=asked.study.hardware if asked.scale == "laptop" else "not run here",
        cells=cells,
        claims=made,
        untested=untested,
        runs_wanted=len(asked.specs),
        runs_finished=len(asked.specs) - len(asked.missing),
        seconds=sum(run.seconds for run in reader.loaded.values()),
        reproduce=f"foresee study {name} --scale {asked.scale}",
        warnings=asked.finished.unreadable,
    )


class _Reader:
    """Reads finished runs, each once, and builds no model."""

    def __init__(self, finished: Finished, scale: Scale) -> None:
        self.finished, self.scale = finished, scale
        self.loaded: dict[Path, Run] = {}
        self._chances: dict[str, float] = {}

    def cell(self, cell: Cell) -> CellResult:
        """One cell of the table."""
        controls, spec, published = self.runs(cell.control_specs), cell.specs[0], cell.published
        seeds = tuple(self.seed(run, cell.row, controls) for run in self.runs(cell.specs))
        chance = self.chance(spec)
        rows: list[Row] = [{"value": seed.value, "low": seed.low, "high": seed.high, "n": seed.n} for seed in seeds]
        return CellResult(
            graph=cell.graph, label=cell.label, row=cell.row, chance=chance, task=spec.task, objective=spec.objective,
            backbone=spec.backbone, published=published.value, published_low=published.low,
            published_high=published.high, published_text=published.text,
            published_side=published.lies(cell.row, chance), source=published.source, tag=published.tag,
            rule=cell.rule.says, agreement=judge_agreement(
                cell.rule, published, cell.row, rows, chance, smaller=self.scale == "laptop",
                unfitted=all(_unfitted(seed, cell.row, chance) for seed in seeds),
            ),
            inconclusive=any(seed.inconclusive for seed in seeds), seeds_wanted=len(cell.specs), seeds=seeds,
            controls=tuple(self.seed(run, "exact", controls) for run in controls), note=cell.note,
        )  # fmt: skip

    def runs(self, specs: Sequence[Settings]) -> list[Run]:
        """Those of these runs that are finished."""
        found = [directory for directory in map(self.finished.find, specs) if directory is not None]
        for directory in found:
            if directory not in self.loaded:
                self.loaded[directory] = load(directory)
        return [self.loaded[directory] for directory in found]

    def seed(self, run: Run, row: str, controls: Sequence[Run]) -> SeedResult:
        """One run; ``controls`` are those of its cell."""
        measured = _rate(run, row)
        solved = all(map(_solved, _beside(run, controls))) if controls else None
        verdict = judge(run.rows, self.chance(run.spec), solved)
        return SeedResult(
            seed=run.spec.seed, run=run.spec.digest, dir=str(run.dir), value=measured["value"], low=measured["low"],
            high=measured["high"], n=measured["n"], exact=_rate(run, "exact")["value"], solved=_solved(run),
            verdict=verdict.name, inconclusive=verdict.inconclusive, because=verdict.because, steps=run.steps,
            solved_at=steps_to_solve(run), seconds=run.seconds,
        )  # fmt: skip

    def chance(self, spec: Settings) -> float:
        """That of the run's task."""
        if spec.task not in self._chances:
            self._chances[spec.task] = spec.build_task().chance
        return self._chances[spec.task]


def _beside(run: Run, controls: Sequence[Run]) -> Sequence[Run]:
    """The control with the run's seed, or all of them where none has it."""
    return [control for control in controls if control.spec.seed == run.spec.seed] or controls


def _rate(run: Run, row: str) -> Row:
    measured = run.rows.get(row)
    if not isinstance(measured, dict) or not {"low", "high"} <= measured.keys():
        raise RequestError(
            f"{run.dir} has no rate {row!r}, which the study compares; it may be of another version: delete it and run "
            "the study again"
        )
    return measured


def _solved(run: Run) -> bool:
    return bool(_rate(run, "exact")["value"] >= SOLVED)


def _unfitted(seed: SeedResult, row: str, chance: float) -> bool:
    """Whether a run has not learned even what a guess at the decision needs. Where that guess is the whole answer there
    is no shortcut to measure, and ``exact`` below chance says it alone: candidates are not told from other symbols."""
    return seed.verdict == "unfitted" or (row == "exact" and seed.high < chance)
