"""``foresee.plot``: the charts of the page, as Altair charts that show themselves in a notebook and save themselves.

Each takes what is to be drawn: runs, comparisons, or names or folders of runs. ``chart.save("figure.pdf")`` writes one
as SVG, PDF, PNG, HTML or JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from foresee.core.errors import RequestError
from foresee.core.registry import nearest
from foresee.experiments.compare import Comparison
from foresee.report import charts, frames
from foresee.report.groups import NOTHING, Section, arrange, folders_of
from foresee.report.style import CONFIG
from foresee.training.run import Run, find_runs
from foresee.training.values import checked

__all__ = ["anatomy", "curves", "positions", "supervision", "survival"]

One = Run | Comparison | str | Path
Source = One | Sequence[One]


@checked
def curves(*about: Source, measure: str | None = None, runs: str | Path = "runs") -> alt.VConcatChart:
    """Learning curves, a line a seed: of ``measure`` (branch, forced or exact), or of each that there is."""
    if measure is not None and measure not in charts.MEASURES:
        raise RequestError(f"measure {measure!r} is not drawn: {nearest(measure, list(charts.MEASURES))}")
    return _stacked([learning_curves(each, measure=measure) for each in _sections(about, runs)], "evaluations")


@checked
def positions(*about: Source, runs: str | Path = "runs") -> alt.VConcatChart:
    """Forced and free-running accuracy by answer position, a chart an objective."""
    return _stacked([accuracy_by_position(each) for each in _sections(about, runs)], "finished runs")


@checked
def survival(*about: Source, runs: str | Path = "runs") -> alt.VConcatChart:
    """The share of seeds not yet solved against training steps (Kaplan-Meier)."""
    return _stacked([steps_to_solve(each) for each in _sections(about, runs)], "evaluations")


@checked
def supervision(*about: Source, runs: str | Path = "runs") -> alt.VConcatChart:
    """Which answer positions the training loss comes from, over steps, a chart an objective."""
    return _stacked([loss_by_position(each) for each in _sections(about, runs)], "losses by position")


@checked
def anatomy(run: Source, example: int = 0, *, runs: str | Path = "runs") -> alt.VConcatChart:
    """What a trained model did on one of its kept test examples: how likely each symbol was at each place, written
    freely and with the truth shown, and what the position that decides reads."""
    (section, *_) = _sections([run], runs)
    kept = section.groups[0].runs[0].anatomies
    if not 0 <= example < len(kept):
        raise RequestError(f"example {example} is not kept: {run} keeps the anatomy of {len(kept)}, counted from 0")
    found = kept[example]
    modes = {"free": f"written freely: {found['wrote']}", "truth": f"the truth shown: {found['answer']}"}
    shown = [[charts.probabilities(frames.probabilities(found, mode), title=title)]
             for mode, title in modes.items() if found.get(mode)]  # fmt: skip
    read = frames.attention(found)
    return _stacked([*shown, *([] if read.empty else [[charts.attention(read)]])], "probabilities")


def _sections(about: Sequence[Source], runs: str | Path) -> tuple[Section, ...]:
    folders = folders_of(*about, runs=runs) if about else [Path(runs)]
    if not folders:
        raise RequestError(NOTHING)
    found = [each for each in find_runs(*folders) if isinstance(each, Run)]
    if not found:
        raise RequestError(f"{', '.join(map(str, folders))}: no run that can be read; train one first")
    return arrange(found)


def _stacked(rows: list[list[Any]], what: str) -> alt.VConcatChart:
    """Charts in rows, as they look on a page. Raises ``RequestError`` where there is none, for want of ``what``."""
    made = [alt.hconcat(*row) for row in rows if row]
    if not made:
        raise RequestError(f"nothing to draw: these runs have no {what}")
    look: Mapping[str, Any] = {**CONFIG, "background": "white"}
    # Rows have objectives, and so colours, of their own.
    stacked: alt.VConcatChart = alt.vconcat(*made).resolve_scale(color="independent", strokeDash="independent")
    finished: alt.VConcatChart = stacked.configure(**look)
    return finished


# Of one section -------------------------------------------------------------------------------------------------------


def learning_curves(section: Section, marks: charts.Marks | None = None, measure: str | None = None) -> list[Any]:
    """A chart a measure, or of the one that is named."""
    rows = frames.curves(section.groups)
    wanted = [measure] if measure else [each for each in charts.MEASURES if each in set(rows["measure"])]
    return [charts.learning_curve(rows, each, chance=section.chance, marks=marks) for each in wanted]


def steps_to_solve(section: Section, marks: charts.Marks | None = None) -> list[Any]:
    """One chart, where a run has begun."""
    rows = frames.survival(section.groups)
    return [charts.survival(rows, marks=marks)] if len(rows) else []


def accuracy_by_position(section: Section, marks: charts.Marks | None = None) -> list[Any]:
    """A chart a group that has a finished run."""
    marks = marks or section.marks
    return [
        charts.accuracy_by_position(frames.positions([group]), chance=section.chance, branch=section.branch_position,
                                    marks=marks, title=group.label)
        for group in section.groups if group.finished
    ]  # fmt: skip


def costs(section: Section, marks: charts.Marks | None = None) -> list[Any]:
    """One chart, where a finished run was timed."""
    rows = frames.costs(section.groups)
    return [charts.costs(rows, marks=marks)] if len(rows) else []


def loss_by_position(section: Section, marks: charts.Marks | None = None) -> list[Any]:
    """A chart a group whose runs say their loss by position; it has no colours of objectives."""
    found = {group.label: frames.supervision(group) for group in section.groups}
    return [charts.supervision(rows, branch=section.branch_position, title=label) for label, rows in found.items()
            if len(rows)]  # fmt: skip


FIGURES = {"learning_curves": learning_curves, "survival": steps_to_solve, "costs": costs,
           "accuracy_by_position": accuracy_by_position, "loss_by_position": loss_by_position}  # fmt: skip
"""Those that are written as files, by name."""
