"""docs/findings.md with its figure, and docs/runs.md, from the committed rows: what repairs next-token training, in
which share of seeds, and at what cost; and every run that this stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.experiments.studies.base import TAGS
from foresee.experiments.studies.run import OTHER_DEVICE, StudyPlan, plan, read
from foresee.experiments.studies.show import probability
from foresee.report import charts, frames
from foresee.report.groups import Group, task_title
from foresee.report.style import draw_svg
from generate.drawing import render
from generate.lines import FOLDERS, VARIED, Line, choose_best, gather, pair, read_runs, training_of

STUDY, LARGER = "objectives", "graph-size"
COST = "step-cost.json"
"""In ``results``: what ``benchmarks/objectives.py --backbone gpt-nano --batch 128 --json`` printed."""
SEEDS = 3
"""The least number of finished runs that a curve of the figure stands on."""


@dataclass(frozen=True)
class Standing:
    """A row of the page's table: one objective, under settings that are equal for all, under its best, and beyond.

    ``cost`` is that of a step beside next-token's; ``larger`` has, for each larger graph, the line under its best
    settings there, None where nothing is finished, and what is published of it.
    """

    objective: str
    published: str
    equal: Line | None
    best: Line
    cost: float | None
    larger: tuple[tuple[Line | None, str], ...]


def write_findings(root: Path = Path()) -> Path:
    """Writes ``docs/findings.md``, ``docs/findings.svg`` and ``docs/runs.md`` below ``root``, the repository's folder.
    Raises ``RequestError`` where it has no committed runs."""
    results = root / "results"
    runs = read_runs(results, FOLDERS)
    if not runs:
        raise RequestError(f"{results} holds no runs to report; run this in the root of the repository")
    study = plan(STUDY, "laptop", results / STUDY, [results])
    lines, twins = gather(runs), pair(runs, read_runs(results, [OTHER_DEVICE]))
    sizes = plan(LARGER, results=[results])
    standings = rank_objectives(study, sizes, lines, files.read_json(results / COST)["ratios"])
    result = read(study)
    result = read(study)
    out = root / "docs" / "findings.md"
    page = render(
        "findings.md.j2", study=result, standings=standings, larger=list(graphs_of(sizes)), probability=probability,
        claims=[claim for claim in result.claims if claim.shown], twins=twins,
        unlike=[twin for twin in twins if is_unlike(twin)],
        tags={tag: meaning for tag, meaning in TAGS.items() if f"[{tag}]" in str(standings)},
    )  # fmt: skip
    files.write_text(out, page)
    files.write_text(out.with_name("runs.md"), render("runs.md.j2", lines=lines, twins=twins))
    if curves := [each.best for each in standings if is_drawn(each.best)]:
        groups = [Group(f"line-{at}", line.label, line.begun) for at, line in enumerate(curves)]
        figure = charts.survival(frames.survival(groups)).properties(width=820, height=300)  # as wide as its legend
        files.write_text(out.with_suffix(".svg"), draw_svg(figure))
    return out


def graphs_of(study: StudyPlan) -> dict[str, str]:
    """The graphs of a study, and what their lines are called."""
    return {cell.graph: task_title(cell.runs[0].task) for cell in study.cells}


def rank_objectives(
    study: StudyPlan, sizes: StudyPlan, lines: Sequence[Line], costs: Mapping[str, float]
) -> list[Standing]:
    """A row for each objective that has a finished run on the study's graph, the surest first."""
    (graph, title), *_ = graphs_of(study).items()
    published = {(cell.graph, cell.label): cell.published for cell in (*study.cells, *sizes.cells)}
    settings = training_of(study.cells[0].runs[0], *VARIED, "objective")
    equal = {
        line.objective: line
        for line in lines
        if line.group.runs and training_of(line.begun[0].spec, *VARIED, "objective") == settings
    }
    larger = {
        name: {line.objective: line for line in choose_best([line for line in lines if line.graph == where])}
        for name, where in graphs_of(sizes).items()
    }

    def cite(graph: str, objective: str) -> str:
        known = published.get((graph, objective))
        return f"{known.text} [{known.tag}]" if known is not None and known.tag != "unknown" else ""

    return [
        Standing(
            best.objective,
            cite(graph, best.objective),
            equal.get(best.objective),
            best,
            costs.get(best.objective),
            tuple((found.get(best.objective), cite(name, best.objective)) for name, found in larger.items()),
        )
        for best in choose_best([line for line in lines if line.graph == title])
    ]


def is_unlike(twin: Line) -> bool:
    """Whether one of the two runs solved and the other did not."""
    return 0 < twin.group.seeds_solved < len(twin.group.runs)


def is_drawn(line: Line) -> bool:
    """Whether the figure has a curve of it: enough seeds of which one solved, or the objective that others repair."""
    return line.objective == "next-token" or (line.group.seeds_solved > 0 and len(line.group.runs) >= SEEDS)
