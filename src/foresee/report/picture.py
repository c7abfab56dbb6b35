"""Figures as files: those of a page for papers and slides, and one wide picture for a README."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair as alt

from foresee.core.errors import RequestError
from foresee.report import charts, frames
from foresee.report.examples import Panel, pick
from foresee.report.groups import Section, arrange
from foresee.report.rendering import environment
from foresee.report.style import FONT, KINDS, assign_marks, draw_svg, write_svg
from foresee.training.run import Run, find_runs

MOST_EXAMPLES = 6
"""Groups of a section whose example is drawn."""


def write_picture(run_dirs: Sequence[Path], out: Path) -> Path:
    """Writes a picture as SVG, PNG or PDF, by the ending of ``out``; returns ``out``.

    On the left ``exact`` against steps for every run; on the right one test graph with what a run that failed and a run
    that solved wrote on it (fewer where there is no such run). Raises ``RequestError`` on another ending or a missing
    or damaged run directory.
    """
    out = Path(out)
    if out.suffix.lower().removeprefix(".") not in KINDS:
        raise RequestError(f"{out}: a picture's name must end in .svg, .png or .pdf")
    if not run_dirs:
        raise RequestError("a picture needs at least one run directory, such as runs/0123456789abcdef")
    sections = arrange([run for run in find_runs(*run_dirs) if isinstance(run, Run)])
    together, marks = [each for each in sections if each.chance == sections[0].chance], _marks(sections)
    groups = {group.label: group for each in together for group in each.groups}
    if len({each.task for each in together}) > 1:
        groups = {f"{group.label}, {each.title.partition(',')[0]}": group for each in together for group in each.groups}
    drawn = {label: marks[group.label] for label, group in groups.items()}
    rows = frames.curves([replace(group, label=label) for label, group in groups.items()])
    left = charts.learning_curve(rows, "exact", chance=sections[0].chance, marks=drawn)
    left = left.properties(width=380, height=260)
    return write_svg(_compose(draw_svg(left), _contrast(sections), marks), out)


def write_figures(sections: Sequence[Section], folder: Path) -> None:
    """Writes learning curves, survival curves, accuracy by position, costs, shares of the loss (where runs have them)
    and the drawn examples of every section into ``folder``, each as SVG and PDF."""
    marks = _marks(sections)
    for place, section in enumerate(sections, start=1):
        end, chance = f"_{place}" if len(sections) > 1 else "", section.chance
        drawn: dict[str, str] = {}

        def add(name: str, made: Sequence[Any], end: str = end, drawn: dict[str, str] = drawn) -> None:
            if made:
                drawn[name + end] = draw_svg(made[0] if len(made) == 1 else alt.concat(*made, columns=3))

        branch = None if section.branch is None else section.branch + 1
        add("learning_curves", [charts.learning_curves(frames.curves(section.groups), chance=chance, marks=marks)])
        add("survival", [charts.survival(frames.survival(section.groups), marks=marks)])
        add("accuracy_by_position", [
            charts.accuracy_by_position(frames.positions([group]), chance=chance, branch=branch, marks=marks,
                                        title=group.label)
            for group in section.groups if group.finished
        ])  # fmt: skip
        costs = frames.costs(section.groups)
        add("costs", [] if costs.empty else [charts.costs(costs, marks=marks)])
        shares = {group.label: frames.supervision(group) for group in section.groups}
        add("loss_by_position", [
            charts.supervision(rows, branch=branch, title=label) for label, rows in shares.items() if not rows.empty
        ])  # fmt: skip
        for number, panel in enumerate(_one_each(section)[:MOST_EXAMPLES], start=1):
            if panel.star is not None:
                drawn[f"example{end}_{number}"] = _compose("", [panel], marks)
            if not (read := panel.attention).empty:
                drawn[f"attention{end}_{number}"] = draw_svg(charts.attention(read))
        for name, svg in drawn.items():
            for kind in ("svg", "pdf"):
                write_svg(svg, folder / f"{name}.{kind}")


def _marks(sections: Sequence[Section]) -> charts.Marks:
    return assign_marks([group.label for each in sections for group in each.groups])


def _one_each(section: Section) -> list[Panel]:
    """The most telling example of a section, as each group's first run wrote it."""
    first: dict[str, Panel] = {}
    for panels in pick(section, 10**6):
        for panel in panels:
            first.setdefault(panel.group.id, panel)
    return list(first.values())


def _contrast(sections: Sequence[Section]) -> list[Panel]:
    """Of the first section that has any: a drawing of a run that got its example wrong, and of one that got it
    right."""
    for section in sections:
        drawn = [panel for panel in _one_each(section) if panel.star is not None]
        if drawn:
            return [*[each for each in drawn if not each.right][:1], *[each for each in drawn if each.right][:1]]
    return []


def _compose(chart: str, panels: Sequence[Panel], marks: charts.Marks) -> str:
    """A chart with graphs beside it, above one another; graphs alone are drawn without words."""
    left, down, right, stars = 36.0 if not chart else _size(chart)[0] + 60, 40.0 if chart else 12.0, 0.0, []
    for panel in panels:
        drawing, lines = panel.drawing, textwrap.wrap(panel.said, 48) if chart else []
        assert drawing is not None
        scale = 1.5 if chart else 1.2
        title = f"What {panel.group.label} training writes" if chart else ""
        stars.append({"x": left, "y": down, "title": title, "lines": lines, "drawing": drawing, "scale": scale,
                      "colour": marks[panel.group.label].colour})  # fmt: skip
        down += drawing.height * scale + 17 * len(lines) + (64 if chart else 12)
        right = max(right, drawing.width * scale)
    width, height = _size(chart) if chart else (0.0, 0.0)
    template = environment().get_template("picture.svg.j2")
    return template.render(
        chart=chart, stars=stars, font=FONT, width=max(left + right + 16, width + 24),
        height=max(down - (20 if chart else 0), height + 24),
    )  # fmt: skip


def _size(svg: str) -> tuple[float, float]:
    found = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
    assert found is not None
    return float(found[1]), float(found[2])
