"""One wide picture for a README: who learned it, and what the failure and the cure look like on one graph."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foresee.core.errors import RequestError
from foresee.report.choose import Shown, choose
from foresee.report.curves import curve_panel, legend_handles
from foresee.report.drawing import draw_star
from foresee.report.groups import Setting, arrange, marks_of
from foresee.report.load import read_runs
from foresee.report.plotting import drawing, render
from foresee.report.star import Star, Walk
from foresee.report.style import Mark, plain, write_bytes
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
    if not run_dirs:
        raise RequestError("a picture needs at least one run directory, such as runs/0123456789abcdef")
    records, _ = read_runs(run_dirs)
    settings = arrange(records, {})
    with drawing():
        write_bytes(out, render(picture(settings, marks_of(settings)), kind))
    return out


def picture(settings: Sequence[Setting], given: dict[str, Mark]) -> Figure:
    """The figure behind ``write_picture``."""
    graphs = _contrast(settings)
    arms = sum(len(star.arms) for _, star, _ in graphs)
    figure = Figure(
        figsize=(10.6 if graphs else 6.0, max(4.4, 0.62 * arms + 1.0 * len(graphs))),
        layout="constrained",
        facecolor="white",
    )
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08, wspace=0.06, hspace=0.04)  # type: ignore[union-attr, call-arg]  # the constrained one
    columns = figure.add_gridspec(1, 2 if graphs else 1)
    _curve(figure.add_subplot(columns[0]), settings, given)
    # Graphs stand above one another: side by side, their labels would be too small on a README's width.
    places = columns[-1].subgridspec(max(1, len(graphs)), 1)
    for at, (shown, star, walk) in enumerate(graphs):
        axes = figure.add_subplot(places[at])
        mark = given[shown.group.name]
        draw_star(axes, star, walk, mark)
        axes.set_title(f"What {plain(shown.group.label, 28)} training writes", color=mark.colour)
        said = textwrap.fill(plain(walk.said, 120), 50)
        axes.annotate(said, (0.0, -0.02), xycoords="axes fraction", ha="left", va="top", fontsize=11)
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
    axes.legend(handles=legend_handles(groups, given), loc="upper center", bbox_to_anchor=(0.5, -0.16),
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
