"""Learning curves, and accuracy by answer position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from foresee.metrics.survival import kaplan_meier
from foresee.report.charts import MEASURES, share_at, times_of
from foresee.report.groups import Group, Setting
from foresee.report.plotting import rates_axis
from foresee.report.style import INK, QUIET, Mark, plain
from foresee.report.supervision import supervision_of

PANEL = (5.0, 3.1)
"""Width and height in inches of one panel; at this width its type is legible on a phone."""


def curve_panel(axes: Axes, setting: Setting, measure: str, marks: Mapping[str, Mark], *, title: bool = True) -> None:
    """One measure against training steps: a thin line a seed, the chance line, groups named at their last points."""
    ends: list[tuple[float, str, Mark]] = []
    last = max((e.step for group in setting.groups for run in group.runs for e in run.record.evaluations), default=0)
    missing: list[str] = []
    for group in setting.groups:
        mark, finals, several = marks[group.name], [], len(group.runs) > 1
        for run in group.runs:
            points = [(e.step, value) for e in run.record.evaluations if (value := e.rate(measure)) is not None]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=mark.colour, linestyle=mark.dash, linewidth=1.3 if several else 1.9,
                      alpha=0.85 if several else 1.0, marker=mark.marker, markersize=4.2,
                      markevery=max(1, len(steps) // 6), markeredgewidth=0, zorder=3)  # fmt: skip
            finals.append(values[-1])
        if finals:
            ends.append((sorted(finals)[len(finals) // 2], group.label, mark))
        else:
            missing.append(group.label)
    if title:
        axes.set_title(MEASURES[measure])
    axes.set_xlabel("training steps")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    rates_axis(axes)
    axes.set_xlim(0, max(last, 1))
    if setting.chance is not None and measure != "forced":
        chance_line(axes, setting.chance)
    if not ends:
        nothing = "does not apply: nothing is forced" if last and measure == "forced" else "no measurements yet"
        axes.annotate(nothing, (0.5, 0.6), xycoords="axes fraction", ha="center", color=QUIET)
    elif missing:
        names = ", ".join(plain(label, 24) for label in dict.fromkeys(missing))
        axes.annotate(f"not measured: {names}", (0.02, 0.03), xycoords="axes fraction", fontsize=10.5, color=QUIET)


def chance_line(axes: Axes, chance: float) -> None:
    """A dotted line at chance, labelled on the right, outside the data."""
    axes.axhline(chance, color=INK, linestyle=(0, (1.0, 2.2)), linewidth=1.2, zorder=2)
    axes.annotate(
        f"chance\n{chance:.3g}", (1.0, chance), xycoords=("axes fraction", "data"), xytext=(5, 0),
        textcoords="offset points", va="center", ha="left", fontsize=10.5, color=INK, annotation_clip=False,
    )  # fmt: skip


def legend_handles(groups: Sequence[Group], marks: Mapping[str, Mark]) -> list[Line2D]:
    """One entry an objective: its colour, dashes and marker."""
    found: dict[str, Line2D] = {}
    for group in groups:
        mark = marks[group.name]
        found[group.name] = Line2D([], [], color=mark.colour, linestyle=mark.dash, linewidth=1.9,
                                        marker=mark.marker, markersize=5, label=plain(group.label, 36))  # fmt: skip
    return list(found.values())


def _headroom(entries: int, columns: int) -> float:
    """Inches that a legend of ``entries`` takes above a figure's panels."""
    return 0.12 + 0.24 * -(-entries // columns)


def curve_figure(
    setting: Setting, measures: Sequence[str], marks: Mapping[str, Mark], *, columns: int = 1, legend: bool = True
) -> Figure:
    """The chosen measures as panels in ``columns`` columns, one legend above them all."""
    handles = legend_handles(setting.groups, marks)
    rows = -(-len(measures) // columns)
    per_line = columns * (1 if max(len(str(handle.get_label())) for handle in handles) > 16 else 3)
    head = _headroom(len(handles), per_line) if legend else 0.0
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + head), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.04, hspace=0.05)  # type: ignore[union-attr, call-arg]  # the constrained one
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, measure in zip(panels.flat, measures, strict=False):
        curve_panel(axes, setting, measure, marks)
    if legend:
        figure.legend(handles=handles, loc="outside upper left", ncols=per_line, handlelength=3.0, columnspacing=1.4)
    return figure


def position_panel(axes: Axes, group: Group, chance: float | None, mark: Mark, *, title: bool = True) -> None:
    """Forced (filled, solid) against free-running (open, dashed) accuracy by answer position, a line a seed."""
    longest, forced_found = 0, False
    for run in group.finished:
        forced, free = run.record.values("forced"), run.record.values("free")
        longest = max(longest, len(forced), len(free))
        if forced:
            forced_found = True
            axes.plot(range(1, len(forced) + 1), forced, color=mark.colour, linestyle="solid", linewidth=1.7,
                      marker="o", markersize=8, zorder=3)  # fmt: skip
        if free:
            axes.plot(range(1, len(free) + 1), free, color=mark.colour, linestyle=(0, (3.0, 2.0)), linewidth=1.5,
                      marker="o", markersize=4.5, markerfacecolor="white", zorder=4)  # fmt: skip
    if title:
        axes.set_title(plain(group.label, 40))
    axes.set_xlabel("position in the answer")
    rates_axis(axes)
    axes.set_xlim(0.6, max(longest, 2) + 0.4)
    if 1 < longest <= 8:
        names = {1: "\nstart", 2: "\nbranch", longest: "\nend"}
        axes.set_xticks(range(1, longest + 1), [f"{at}{names.get(at, '')}" for at in range(1, longest + 1)])
    elif longest:
        axes.set_xticks([1, *range(5, longest + 1, 5 * max(1, longest // 40))])
    if chance is not None:
        chance_line(axes, chance)
    if not longest:
        axes.annotate("not measured yet", (0.5, 0.7), xycoords="axes fraction", ha="center", color=QUIET)
    elif not forced_found:
        axes.annotate("this objective cannot be forced", (0.02, 0.03), xycoords="axes fraction", fontsize=10.5,
                      color=QUIET)  # fmt: skip


def position_figure(
    setting: Setting, groups: Sequence[Group], marks: Mapping[str, Mark], *, columns: int = 1, legend: bool = True
) -> Figure:
    """Accuracy by position, a panel a group in ``columns`` columns."""
    rows = -(-len(groups) // columns)
    head = _headroom(2, 2) if legend else 0.0
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + head), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.04, hspace=0.05)  # type: ignore[union-attr, call-arg]  # the constrained one
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, group in zip(panels.flat, groups, strict=False):
        position_panel(axes, group, setting.chance, marks[group.name])
    for axes in list(panels.flat)[len(groups) :]:
        axes.set_axis_off()
    if legend:
        figure.legend(handles=position_handles(), loc="outside upper left", ncols=2, handlelength=3.0)
    return figure


def position_handles() -> list[Line2D]:
    """How forced and free-running accuracies are drawn."""
    return [
        Line2D([], [], color=INK, marker="o", markersize=8, linewidth=1.7, label="forced (truth revealed)"),
        Line2D([], [], color=INK, marker="o", markersize=4.5, markerfacecolor="white", linestyle=(0, (3.0, 2.0)),
               linewidth=1.5, label="free-running"),
    ]  # fmt: skip


def survival_figure(setting: Setting, marks: Mapping[str, Mark]) -> Figure:
    """The share of runs not yet solved against training steps; a tick where a run ended unsolved."""
    figure = Figure(figsize=PANEL, layout="constrained")
    axes = figure.subplots()
    for group in setting.groups:
        times, mark = times_of(group), marks[group.name]
        if times is None:
            continue
        curve = kaplan_meier(times)
        across, down = [0.0, *curve.at, curve.end], [1.0, *curve.share, (curve.share or (1.0,))[-1]]
        axes.step(across, down, where="post", color=mark.colour, linestyle=mark.dash, linewidth=1.9,
                  label=plain(group.label, 36))  # fmt: skip
        ended = sorted({time for time, came in zip(times.times, times.came, strict=True) if not came})
        axes.plot(ended, [share_at(curve, time) for time in ended], linestyle="none", marker="|", markersize=11,
                  markeredgewidth=1.6, color=mark.colour)  # fmt: skip
    axes.set_title("Runs not yet solved")
    axes.set_xlabel("training steps")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    rates_axis(axes)
    axes.set_xlim(left=0)
    if axes.lines:
        figure.legend(loc="outside upper left", ncols=2, handlelength=3.0)
    return figure


def supervision_figure(setting: Setting) -> Figure | None:
    """Shares of the training loss by answer position over steps, a panel a group; None where no run says them."""
    told = [(group, found) for group in setting.groups if (found := supervision_of(group)) is not None]
    if not told:
        return None
    columns = min(3, len(told))
    rows = -(-len(told) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (group, found) in zip(panels, told, strict=False):
        bands = list(zip(*found.shares, strict=True))
        colours = ["#d55e00" if at == setting.branch else ("#c3ccd6", "#dde3ea")[at % 2] for at in range(len(bands))]
        names = [f"{at + 1}{' (branch)' if at == setting.branch else ''}" for at in range(len(bands))]
        axes.stackplot(found.steps, *bands, colors=colours, labels=names, linewidth=0)
        axes.set_title(plain(group.label, 40))
        axes.set_xlabel("training steps")
        axes.set_ylabel("share of the loss")
        axes.set_ylim(0, 1)
        axes.margins(x=0)
        if setting.branch is not None and setting.branch < len(bands):
            axes.annotate("branch", (0.97, 0.92), xycoords="axes fraction", ha="right", color=INK)
    for axes in panels[len(told) :]:
        axes.set_axis_off()
    return figure
