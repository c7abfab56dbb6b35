"""The page's drawings: losses by position, accuracies by position, learning curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from foresee.experiments.diagnose.result import Learned
from foresee.experiments.diagnose.tables import Row
from foresee.report.markup import text
from foresee.report.style import Mark
from foresee.report.svg import Plot, path, short, thinned, ticks

WIDTH, HEIGHT = 560.0, 260.0

SHOWN, HIDDEN, FORCED, FREE = 0, 2, 1, 3
"""Hues of the page's palette."""


def losses(rows: Sequence[Row], key: str, decisions: Sequence[int], from_end: bool) -> str:
    """Loss with the truth shown and hidden at each position, and decision positions on yellow."""
    highest = max((row[name]["high"] for row in rows for name in ("shown", "hidden")), default=1.0)
    levels = ticks(max(highest, 0.1) * 1.05)
    plot = _plot(rows, key, levels[-1] if levels[-1] >= highest else levels[-1] + levels[-1] / max(1, len(levels) - 1))
    plot.levels([(at, f"{at:.3g}") for at in levels])
    place_of = _placed(rows, key, from_end)
    for place in decisions:
        low, high = plot.x(place + 0.6), plot.x(place + 1.4)
        plot.add(
            f'<path class="here" d="M{short(low)} {short(plot.top)}H{short(high)}V{short(plot.bottom)}H{short(low)}Z"/>'
        )
    _axis(plot, rows, key, from_end)
    for name, hue, dashes in (("hidden", HIDDEN, "8 3"), ("shown", SHOWN, "")):
        _line(plot, [(place_of(row), row[name]) for row in rows], hue, dashes, name)
    end = "last" if from_end else "first"
    return plot.svg(f"Loss with the truth shown and hidden, by position, the {end} token at 1")


def accuracies(rows: Sequence[Row]) -> str:
    """Forced and free-running accuracy of next-token at each position."""
    plot = _plot(rows, "position", 1.02, low=-0.02)
    plot.rates()
    _axis(plot, rows, "position", False)
    place_of = _placed(rows, "position", False)
    for name, hue, dashes in (("forced", FORCED, ""), ("free", FREE, "4 3")):
        _line(plot, [(place_of(row), row[name]) for row in rows], hue, dashes, name)
    return plot.svg("Accuracy of next-token by position, with the truth shown and written freely")


def curves(learned: Iterable[Learned], marks: Mapping[str, Mark]) -> str:
    """The share of watched examples right as a whole during training, a line a seed."""
    learned = list(learned)
    last = max((step for each in learned for curve in each.curves for step, _ in curve), default=1)
    plot = Plot(last, low=-0.02, high=1.02, width=WIDTH, height=HEIGHT)
    plot.rates()
    plot.steps()
    for each in learned:
        mark, lines = marks[each.objective], ""
        for seed, curve in enumerate(each.curves):
            said = f"{each.objective}, seed {seed}: {curve[-1][1]:.3f} at step {curve[-1][0]:,}" if curve else ""
            points = thinned(plot.to_pixels((float(step), value) for step, value in curve))
            lines += f'<g><title>{text(said)}</title><path d="{path(points)}"/></g>' if points else ""
        dashes = f' stroke-dasharray="{mark.dashes}"' if mark.dashes else ""
        plot.add(f'<g class="series h{mark.hue}"{dashes}>{lines}</g>')
    return plot.svg("Whole responses right during training, by objective and seed")


def _plot(rows: Sequence[Row], key: str, high: float, low: float = 0.0) -> Plot:
    last = max((row[key] for row in rows), default=0) + 1
    return Plot(max(last, 2) + 0.4, first_x=0.6, low=low, high=high, width=WIDTH, height=HEIGHT)


def _placed(rows: Sequence[Row], key: str, from_end: bool) -> Callable[[Row], float]:
    """Where a row stands: from the end, the last token is on the right."""
    last = max((row[key] for row in rows), default=0)
    return lambda row: float(last - row[key] + 1) if from_end else float(row[key] + 1)


def _axis(plot: Plot, rows: Sequence[Row], key: str, from_end: bool) -> None:
    last = max((row[key] for row in rows), default=0) + 1
    every = max(1, math.ceil(last / 12))
    for at in range(1, last + 1):
        if at == 1 or at % every == 0:
            plot.label(plot.x(last - at + 1 if from_end else at), plot.bottom + 16, str(at), "middle")
    plot.below("position, counted from the end" if from_end else "position in the response")


def _line(plot: Plot, points: Sequence[tuple[float, Row]], hue: int, dashes: str, name: str) -> None:
    points = sorted(points, key=lambda point: point[0])
    upper = plot.to_pixels((x, min(row["high"], plot.high)) for x, row in points)
    lower = plot.to_pixels((x, max(row["low"], plot.low)) for x, row in points)
    line = plot.to_pixels((x, row["value"]) for x, row in points)
    band = f'<path class="band" d="{path([*upper, *reversed(lower)], close=True)}"/>'
    dots = ""
    if len(line) <= 40:
        for (x, y), (at, row) in zip(line, points, strict=True):
            said = f"{name}, position {at:.0f}: {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            dots += f'<circle cx="{short(x)}" cy="{short(y)}" r="3"><title>{text(said)}</title></circle>'
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    plot.add(f'<g class="series h{hue}"{dashed}>{band}<path d="{path(line)}"/>{dots}</g>')
