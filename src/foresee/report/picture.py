"""Figures as files: those of a page for papers and slides, and one wide picture for a README."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import altair as alt

from foresee.core.errors import RequestError
from foresee.report import charts, frames
from foresee.report.examples import Panel, pick
from foresee.report.groups import Section, arrange
from foresee.report.plot import FIGURES
from foresee.report.rendering import environment
from foresee.report.star import draw_star
from foresee.report.style import FONT, assign_marks, draw_svg, write_svg
from foresee.training.run import Run, find_runs

MOST_EXAMPLES = 6
"""Groups of a section whose example is drawn."""


def write_picture(run_dirs: Sequence[Path], out: Path) -> Path:
    """Writes a picture as SVG, PNG or PDF, by the ending of ``out``; returns ``out``.

    On the left ``exact`` against steps for every run; on the right one test graph with what a run that failed and a run
    that solved wrote on it (fewer where there is no such run). Raises ``RequestError`` on another ending or a missing
    or damaged run directory.
    """
    if not run_dirs:
        raise RequestError("a picture needs at least one run directory, such as runs/0123456789abcdef")
    sections = arrange([run for run in find_runs(*run_dirs) if isinstance(run, Run)])
    marks, together = _marks(sections), [each for each in sections if each.chance == sections[0].chance]
    several = len({each.task for each in together}) > 1
    groups = {
        f"{group.label}, {_graph(each.title)}" if several else group.label: group
        for each in together for group in each.groups
    }  # fmt: skip
    rows = frames.curves([replace(group, label=label) for label, group in groups.items()])
    drawn = {label: marks[group.label] for label, group in groups.items()}
    left = charts.learning_curve(rows, "exact", chance=sections[0].chance, marks=drawn)
    panels = next((found for each in sections if (found := [p for p in _one_each(each) if p.star])), [])
    contrast = [*[each for each in panels if not each.right][:1], *[each for each in panels if each.right][:1]]
    return write_svg(_compose(draw_svg(left.properties(width=380, height=260)), contrast, marks), out)


def write_figures(sections: Sequence[Section], folder: Path) -> None:
    """Writes learning curves, survival curves, accuracy by position, costs, shares of the loss (where runs have them)
    and the drawn examples of every section into ``folder``, each as SVG and PDF."""
    marks = _marks(sections)
    for place, section in enumerate(sections, start=1):
        end = f"_{place}" if len(sections) > 1 else ""
        made = {name: draw(section, marks) for name, draw in FIGURES.items()}
        drawn = {name + end: draw_svg(alt.concat(*found, columns=3)) for name, found in made.items() if found}
        for number, panel in enumerate(_one_each(section)[:MOST_EXAMPLES], start=1):
            if panel.star is not None:
                drawn[f"example{end}_{number}"] = _compose("", [panel], marks)
            if not (read := frames.attention(panel.anatomy or {})).empty:
                drawn[f"attention{end}_{number}"] = draw_svg(charts.attention(read))
        for name, svg in drawn.items():
            for kind in ("svg", "pdf"):
                write_svg(svg, folder / f"{name}.{kind}")


def _marks(sections: Sequence[Section]) -> charts.Marks:
    return assign_marks([group.label for each in sections for group in each.groups])


def _one_each(section: Section) -> list[Panel]:
    """The most telling example of a section, as each group's first run wrote it."""
    first: dict[str, Panel] = {}
    for panel in (panel for panels in pick(section, 10**6) for panel in panels):
        first.setdefault(panel.group.id, panel)
    return list(first.values())


def _compose(chart: str, panels: Sequence[Panel], marks: charts.Marks) -> str:
    """A chart with graphs beside it, above one another, and what was written in words; or graphs alone."""
    wide, high = (float(each) for each in re.findall(r'(?:width|height)="([\d.]+)"', chart)[:2] or (0.0, 0.0))
    scale, down, right, stars = 1.5 if chart else 1.2, 40.0 if chart else 12.0, 0.0, []
    for panel in panels:
        assert panel.star is not None
        assert panel.walk is not None
        drawing, lines = draw_star(panel.star, panel.walk), textwrap.wrap(panel.said, 48) if chart else []
        stars.append({"y": down, "lines": lines, "drawing": drawing, "label": panel.group.label, "right": panel.right,
                      "colour": marks[panel.group.label].colour})  # fmt: skip
        down += drawing.height * scale + 17 * len(lines) + (64 if chart else 12)
        right = max(right, drawing.width * scale + 16)
    left = wide + 60 if chart else 36.0
    return environment().get_template("picture.svg.j2").render(
        chart=chart, stars=stars, font=FONT, left=left, scale=scale, width=max(left + right, wide + 24),
        height=max(down - (20 if chart else 0), high + 24),
    )  # fmt: skip


def _graph(title: str) -> str:
    """A section's title as short as a legend takes it: ``G(2, 5)``, or what stands before the first comma."""
    found = re.search(r"G\(\d+, \d+\)", title)
    return found.group() if found else title.partition(",")[0]
