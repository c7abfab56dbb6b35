"""One wide picture for a README: who learned it, and what the failure and the cure look like on one graph."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foresee.errors import RequestError
from foresee.report.choose import Shown, choose
from foresee.report.curves import curve_panel, legend_handles
from foresee.report.drawing import draw_star
from foresee.report.groups import Setting, arrange
from foresee.report.page import read_records
from foresee.report.star import Star, Walk
from foresee.report.style import Mark, drawing, marks, plain, render, write_bytes
from foresee.report.words import short_task

KINDS = ("svg", "png", "pdf")


def write_picture(run_dirs: Sequence[Path], out: Path) -> Path:
    """Writes a picture of three panels as SVG, PNG or PDF, by the ending of ``out``; returns ``out``.

    The first panel shows ``exact`` against steps for every run; the others one test graph with what a run that failed
    and a run that solved wrote on it (fewer where there is no such run). Raises ``RequestError`` on another ending or a
    missing or damaged run directory.
    """
    out = Path(out)
    kind = out.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise RequestError(f"{out}: a picture's name must end in .svg, .png or .pdf")
    records = read_records(run_dirs)
    settings = arrange(records, {})
    with drawing():
        write_bytes(out, render(picture(settings, marks([record.objective for record in records])), kind))
    return out


def picture(settings: Sequence[Setting], given: dict[str, Mark]) -> Figure:
    """The figure behind ``write_picture``."""
    graphs = _contrast(settings)
    rows = max((len(star.arms) for _, star, _ in graphs), default=2)
    widths = [1.0, *(1.0 for _ in graphs)]
    figure = Figure(figsize=(4.9 * sum(widths), max(3.7, 0.7 * rows + 1.5)), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1, wspace=0.05)  # type: ignore[union-attr, call-arg]
    panels = figure.subplots(1, len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})[0]
    _curve(panels[0], settings, given)
    for axes, (shown, star, walk) in zip(panels[1:], graphs, strict=True):
        mark = given[shown.group.objective]
        draw_star(axes, star, walk, mark)
        axes.set_anchor("N")
        axes.set_title(f"What {plain(shown.group.label, 28)} training writes", color=mark.colour)
        axes.annotate(textwrap.fill(walk.said, 46), (0.5, -0.02), xycoords="axes fraction", ha="center", va="top",
                      fontsize=10.5)  # fmt: skip
    return figure


def _curve(axes: Axes, settings: Sequence[Setting], given: dict[str, Mark]) -> None:
    """``exact`` of every run for whose task chance is that of the first."""
    together = [setting for setting in settings if setting.chance == settings[0].chance]
    several = len({setting.task for setting in together}) > 1
    groups = tuple(
        replace(group, label=f"{group.label}, {short_task(group.task)}" if several else group.label)
        for setting in together
        for group in setting.groups
    )
    curve_panel(axes, replace(settings[0], groups=groups), "exact", given)
    axes.set_title("Whole answer right, by training step")
    axes.legend(handles=legend_handles(groups, given), loc="upper center", bbox_to_anchor=(0.5, -0.2),
                ncols=1 if several else 2, handlelength=3.0)  # fmt: skip


def _contrast(settings: Sequence[Setting]) -> list[tuple[Shown, Star, Walk]]:
    """Of the first setting that has any: the first drawing of a run that got its example wrong, and of one that got it
    right."""
    for setting in settings:
        drawn = [(each, each.star, each.walk) for each in choose(setting.groups) if each.star and each.walk]
        wrong = [part for part in drawn if not part[2].right][:1]
        right = [part for part in drawn if part[2].right][:1]
        if drawn:
            return [*wrong, *right]
    return []
