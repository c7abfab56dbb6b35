"""The page about runs and studies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.experiments.studies.base import TAGS
from foresee.experiments.studies.result import CellResult, StudyResult
from foresee.metrics import verdict
from foresee.report import examples, frames
from foresee.report import tables as every_table
from foresee.report.groups import NOTHING, Group, Section, arrange, folders_of
from foresee.report.picture import write_figures
from foresee.report.rendering import listed, render_page
from foresee.report.star import draw_star, nodes_of
from foresee.report.style import KINDS, assign_marks
from foresee.training.records import one_by_one
from foresee.training.run import DamagedRun, Run, find_runs
from foresee.training.values import checked

TITLE = "Does it look ahead?"


@checked
def report(
    *about: Any, out: str | Path = "report.html", runs: str | Path = "runs",
    title: str | None = None, figures: str | Path | None = None, tables: str | Path | None = None,
    warn: Callable[[str], None] | None = None,
) -> Path:  # fmt: skip
    """Writes one self-contained page on runs (by folder, or digest or the start of that below ``runs``), folders of
    them, comparisons and studies, all below ``runs`` by default; returns its path. A study's own runs need not be
    named.

    ``figures`` and ``tables`` are folders for the figures (SVG, PDF) and tables (Markdown, LaTeX); neither is written
    unless given. Unfinished runs are shown as far as they are; damaged ones are left out, which the page says and
    ``warn`` is told. Raises ``RequestError`` where a folder does not exist or no run can be read, and ``ForeseeError``
    where a file cannot be written.
    """
    if Path(out).suffix.lower().removeprefix(".") in KINDS:
        raise RequestError(f"{out}: a report is a page, whose name ends in .html; --figures FOLDER writes pictures")
    given = one_by_one(about)
    if about and not given:
        raise RequestError(NOTHING)
    studies = [each for each in given if isinstance(each, StudyResult)]
    named = folders_of(*(each for each in given if not isinstance(each, StudyResult)), runs=runs)
    directories = [*named, *(Path(each) for study in studies for each in study.dirs)] if about else [Path(runs)]
    found = find_runs(*dict.fromkeys(path.resolve() for path in directories))
    if not found and not studies:
        raise RequestError(f"{', '.join(map(str, directories))} holds no runs; name some, or train one first")
    damaged = [each.reason for each in found if isinstance(each, DamagedRun)]
    if damaged and len(damaged) == len(found):
        raise RequestError(damaged[0])
    if warn is not None:
        for sentence in damaged:
            warn(f"left out: {sentence}")
    shown = [each for each in found if isinstance(each, Run)]
    sections = arrange(shown)
    if figures is not None:
        write_figures(sections, Path(figures))
    if tables is not None:
        every_table.write_tables(sections, studies, Path(tables))
    out = Path(out)
    groups = [group for section in sections for group in section.groups]
    page = render_page(
        "report.html.j2", title or TITLE, sections=sections, groups=groups, runs=shown, studies=studies,
        damaged=damaged, tables=every_table, frames=frames, examples=examples, nodes_of=nodes_of, draw_star=draw_star,
        rules=verdict, lead=lead, outcomes=outcomes, environments=_environments(shown), published_tags=TAGS,
        supervised=any("position_loss" in line for run in shown for line in run.metrics),
        marks=assign_marks([group.label for group in groups]),
        cell_groups=lambda study: [_group_of(cell, groups) for cell in study.cells], out=out.name,
        beside=[Path(folder).name for folder in (figures, tables) if folder is not None],
        most_panels=max(1, examples.MOST_PANELS // max(1, len(sections))),
    )  # fmt: skip
    files.write_text(out, page)
    return out


def lead(sections: Sequence[Section]) -> str:
    """One sentence on a task, of which these are the sections: which objectives solved it and which did not."""
    alike: dict[str, list[Group]] = {}
    for group in (group for section in sections for group in section.groups):
        alike.setdefault(group.objective, []).append(group)
    who: dict[str, list[str]] = {"solved": [], "failed": [], "waiting": []}
    for objective, groups in alike.items():
        solved, done = sum(group.solved for group in groups), sum(len(group.finished) for group in groups)
        of = f" ({solved} of {done} {'runs' if groups[1:] else 'seeds'})" if done > 1 else ""
        who["solved" if solved else "failed" if done else "waiting"].append(objective + of)
    parts = [f"{listed(who['solved'])} solved it"] if who["solved"] else []
    parts += [f"{listed(who['failed'])} did not{'' if parts else ' solve it'}"] if who["failed"] else []
    parts += [f"{listed(who['waiting'])} {'are' if who['waiting'][1:] else 'is'} unfinished"] if who["waiting"] else []
    guess = f" {sections[0].guess.capitalize()} gets {sections[0].chance:.3g}." if sections[0].chance else ""
    return f"On {sections[0].short_title}: {'; '.join(parts)}.{guess}"


def outcomes(
    sections: Sequence[Section], only: Group | None = None
) -> dict[tuple[str, str], list[tuple[Group, list[Run]]]]:
    """What happened, each outcome once: its name and story, and the groups that had it with those of their runs."""
    found: dict[tuple[str, str], dict[str, tuple[Group, list[Run]]]] = {}
    told: dict[tuple[str, str], str] = {}
    for section in sections:
        for group in section.groups if only is None else [only]:
            for run in group.runs:
                # Unfinished runs differ in how far they are: the table says how far.
                said = group.story(run) if run.rows else "These runs have no final measurements yet."
                # Seeds that differ in nothing else share a story, and the command in it is the first one's.
                said = told.setdefault((group.label, re.sub(r" --seed \d+", "", said)), said)
                found.setdefault((group.outcome(run), said), {}).setdefault(group.id, (group, []))[1].append(run)
    return {key: list(having.values()) for key, having in found.items()}


def _group_of(cell: CellResult, groups: Sequence[Group]) -> Group | None:
    """The group of a cell's runs; None while none is finished."""
    names = {seed.run for seed in cell.seeds}
    return next((group for group in groups if any(run.dir.name in names for run in group.runs)), None)


def _environments(runs: Sequence[Run]) -> list[tuple[dict[str, object], list[str]]]:
    """What runs were made with, nested names joined by dots, and the names of those that were."""
    made: dict[str, list[str]] = {}
    for run in runs:
        made.setdefault(json.dumps(run.environment, sort_keys=True), []).append(run.dir.name)
    return [(dict(pd.json_normalize(json.loads(facts)).iloc[0]), names) for facts, names in made.items()]
