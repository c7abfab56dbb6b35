"""docs/findings.md with its figure, and docs/runs.md, from the committed rows: what repairs next-token training, in
which share of seeds, and at what cost; and every run that this stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.experiments.studies.base import TAGS
from foresee.experiments.studies.run import StudyPlan, plan, read
from foresee.experiments.studies.show import probability
from foresee.report import charts, frames
from foresee.report.groups import Group, task_title
from foresee.report.style import draw_svg
from foresee.training.settings import CONTROL
from generate.drawing import render
from generate.lines import (
    FOLDERS,
    VARIED,
    Line,
    by_training,
    choose_best,
    find_repeated,
    gather,
    read_runs,
    training_of,
)

STUDY, LARGER, STRUCTURE = "objectives", "graph-size", "structure"
COST = "step-cost.json"
"""In ``results``: what ``benchmarks/objectives.py --backbone gpt-nano --batch 128 --goals all --json`` printed."""
SEEDS = 3
"""The least number of finished runs that a curve of the figure stands on."""


@dataclass(frozen=True)
class Standing:
    """A row of the page's table: one objective, under settings that are equal for all, under its best, and beyond.

    ``searched`` says whether any other settings were tried; ``cost`` is that of a step beside next-token's; ``larger``
    has, for each larger graph, the line under equal settings there, None where nothing is finished, and what is
    published of it.
    """

    objective: str
    published: str
    equal: Line | None
    best: Line
    searched: bool
    cost: float | None
    larger: tuple[tuple[Line | None, str], ...]


def write_findings(root: Path = Path()) -> Path:
    """Writes ``docs/findings.md``, ``docs/findings.svg`` and ``docs/runs.md`` below ``root``, the repository's folder.
    Raises ``RequestError`` where it has no committed runs."""
    results = root / "results"
    runs = read_runs(results, FOLDERS)
    if not runs:
        raise RequestError(f"{results} holds no runs to report; run this in the root of the repository")
    study, sizes = plan(STUDY, "laptop", results / STUDY, [results]), plan(LARGER, results=[results])
    lines, repeated, result = gather(runs), find_repeated(runs), read(study)
    standings = rank_objectives(study, sizes, lines, files.read_json(results / COST)["ratios"])
    graphs = {cell.graph: task_title(cell.runs[0].task) for cell in sizes.cells}
    shown = [line for each in standings for line, _ in each.larger]
    beside = {
        name: [line for line in lines if line.graph == title and line.group.runs and line not in shown]
        for name, title in graphs.items()
    }
    structure = find_cells(plan(STRUCTURE, results=[results]), lines)
    out = root / "docs" / "findings.md"
    page = render(
        "findings.md.j2", study=result, standings=standings, larger=list(graphs), beside=beside, structure=structure,
        claims=[claim for claim in result.claims if claim.shown], probability=probability, repeated=repeated,
        unlike=[line for line in repeated if 0 < line.group.seeds_solved < len(line.group.runs)],
        tags={tag: meaning for tag, meaning in TAGS.items() if f"[{tag}]" in str(standings)},
    )  # fmt: skip
    files.write_text(out, page)
    files.write_text(out.with_name("runs.md"), render("runs.md.j2", lines=lines, repeated=repeated))
    if curves := [each.best for each in standings if is_drawn(each.best)]:
        groups = [Group(f"line-{at}", line.label, line.begun) for at, line in enumerate(curves)]
        figure = charts.survival(frames.survival(groups)).properties(width=820, height=300)  # as wide as its legend
        files.write_text(out.with_suffix(".svg"), draw_svg(figure))
    return out


def find_cells(study: StudyPlan, lines: Sequence[Line]) -> dict[str, list[Line]]:
    """By graph, the lines of a study's cells and of their controls that have a finished run."""
    trained = by_training(lines)
    found: dict[str, list[Line]] = {}
    for cell in study.cells:
        for settings in (cell.control_runs[0], cell.runs[0]):
            line, known = trained.get(training_of(settings, *VARIED)), found.setdefault(cell.graph, [])
            if line is not None and line not in known:
                known.append(line)
    return {graph: each for graph, each in found.items() if each}


def rank_objectives(
    study: StudyPlan, sizes: StudyPlan, lines: Sequence[Line], costs: Mapping[str, float]
) -> list[Standing]:
    """A row for each objective that has a finished run on the study's graph, the surest first."""
    trained = by_training(lines)
    cells = {(cell.graph, cell.label): cell for cell in (*study.cells, *sizes.cells)}
    graph, first = study.cells[0].graph, study.cells[0].runs[0]

    def find(graph: str, objective: str) -> tuple[Line | None, str]:
        """The line of a cell, or of the controls, and what is published there."""
        if objective == CONTROL and (graph, objective) not in cells:
            return trained.get(training_of(cells[graph, "next-token"].control_runs[0], *VARIED)), ""
        cell = cells.get((graph, objective))
        if cell is None:
            return None, ""
        known = f"{cell.published.text} [{cell.published.tag}]" if cell.published.tag != "unknown" else ""
        return trained.get(training_of(cell.runs[0], *VARIED)), known

    standings = []
    here = [line for line in lines if line.graph == task_title(first.task)]
    for best in choose_best(here):
        equal = first.replace(objective=best.group.objective)
        standings.append(
            Standing(
                objective=best.objective,
                published=find(graph, best.objective)[1],
                equal=trained.get(training_of(equal, *VARIED)),
                best=best,
                searched=sum(line.objective == best.objective and bool(line.group.runs) for line in here) > 1,
                cost=costs.get(best.objective),
                larger=tuple(find(each, best.objective) for each in dict.fromkeys(cell.graph for cell in sizes.cells)),
            )
        )
    return standings


def is_drawn(line: Line) -> bool:
    """Whether the figure has a curve of it: enough seeds of which one solved, or the objective that others repair."""
    return line.objective == "next-token" or (line.group.seeds_solved > 0 and len(line.group.runs) >= SEEDS)
