"""``foresee.plot``: the charts of the page, as Altair charts that show themselves in a notebook and save themselves.

Each takes what is to be drawn: runs, comparisons, or names or folders of runs. ``chart.save("figure.pdf")`` writes one
as SVG, PDF, PNG, HTML or JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt

from foresee.core.errors import RequestError
from foresee.core.registry import nearest
from foresee.experiments.compare import Comparison
from foresee.report import charts, frames
from foresee.report.groups import Section, arrange
from foresee.report.page import folders_of
from foresee.report.style import CONFIG, assign_marks
from foresee.training.run import Run, find_runs

__all__ = ["anatomy", "curves", "positions", "supervision", "survival"]

Drawn = Run | Comparison | str | Path


def curves(*about: Drawn, measure: str | None = None, runs: str | Path = "runs") -> alt.VConcatChart:
    """Learning curves, a line a seed: of ``measure`` (branch, forced or exact), or of each that there is."""
    if measure is not None and measure not in charts.MEASURES:
        raise RequestError(f"measure {measure!r} is not drawn: {nearest(measure, list(charts.MEASURES))}")
    shown = []
    for section in _sections(about, runs):
        rows = frames.curves(section.groups)
        wanted = [measure] if measure else [each for each in charts.MEASURES if each in set(rows["measure"])]
        chances, marks = {"forced": None}, _marks(section)
        shown.append([
            charts.learning_curve(rows, each, chance=chances.get(each, section.chance), marks=marks) for each in wanted
        ])  # fmt: skip
    return _stacked(shown, "evaluations")


def positions(*about: Drawn, runs: str | Path = "runs") -> alt.VConcatChart:
    """Forced and free-running accuracy by answer position, a chart an objective."""
    return _stacked(
        [
            [
                charts.accuracy_by_position(
                    frames.positions([group]), chance=section.chance, branch=_branch(section), marks=_marks(section),
                    title=group.label,
                )
                for group in section.groups if group.finished
            ]
            for section in _sections(about, runs)
        ],
        "finished runs",
    )  # fmt: skip


def survival(*about: Drawn, runs: str | Path = "runs") -> alt.VConcatChart:
    """The share of seeds not yet solved against training steps (Kaplan-Meier)."""
    rows = [(section, frames.survival(section.groups)) for section in _sections(about, runs)]
    return _stacked([[charts.survival(each, marks=_marks(section))] if len(each) else [] for section, each in rows],
                    "evaluations")  # fmt: skip


def supervision(*about: Drawn, runs: str | Path = "runs") -> alt.VConcatChart:
    """Which answer positions the training loss comes from, over steps, a chart an objective."""
    return _stacked(
        [
            [
                charts.supervision(rows, branch=_branch(section), title=group.label)
                for group in section.groups if len(rows := frames.supervision(group))
            ]
            for section in _sections(about, runs)
        ],
        "losses by position",
    )  # fmt: skip


def anatomy(run: Drawn, example: int = 0, *, runs: str | Path = "runs") -> alt.VConcatChart:
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


def _sections(about: tuple[Drawn, ...] | list[Drawn], runs: str | Path) -> tuple[Section, ...]:
    folders = folders_of(*about, runs=runs) if about else [Path(runs)]
    found = [each for each in find_runs(*folders) if isinstance(each, Run)]
    if not found:
        raise RequestError(f"{', '.join(map(str, folders))}: no run that can be read; train one first")
    return arrange(found)


def _marks(section: Section) -> charts.Marks:
    return assign_marks([group.label for group in section.groups])


def _branch(section: Section) -> int | None:
    return None if section.branch is None else section.branch + 1


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
