"""A star with what one model wrote along it."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from foresee.report.star import Star, Walk
from foresee.report.style import FAINT, GOAL, HIGHLIGHT, INK, QUIET, Mark, plain

_RADIUS = 0.3
_RING = 0.39
Point = tuple[float, float]


def figure_size(star: Star, rows: int) -> tuple[float, float]:
    """Width and height in inches for ``rows`` rows: as narrow as a phone shows legibly where the arms are short."""
    columns = _right(star) + 0.55
    unit = min(0.85, max(0.6, 5.0 / columns))
    return unit * columns, unit * ((rows - 1) * _spacing(star) + 1.24)


def _spacing(star: Star) -> float:
    """Distance between rows: many arms stand closer."""
    return 1.0 if len(star.arms) <= 5 else 0.85


def _fan(star: Star) -> float:
    """How far the first nodes stand from the centre: further for many arms, so that the edges to them fan out."""
    return max(1.0, 0.17 * (len(star.arms) - 1))


def _right(star: Star) -> float:
    """The right edge of the drawing, with room for a label after the last node."""
    return _fan(star) + max(len(arm) for arm in star.arms) + 0.15


def is_wide(star: Star) -> bool:
    """Whether the drawing wants a row of the page to itself."""
    return figure_size(star, 1)[0] > 7.0


def star_figure(star: Star, walk: Walk | None, mark: Mark | None) -> Figure:
    """One small multiple: the graph, the goal, the true path in yellow and, with ``walk``, what was written."""
    rows = len(star.arms) + (1 if _strays(star, walk) else 0)
    figure = Figure(figsize=figure_size(star, rows))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    draw_star(axes, star, walk, mark)
    return figure


def draw_star(axes: Axes, star: Star, walk: Walk | None, mark: Mark | None) -> None:
    """Draws into ``axes``: centre on the left, one row an arm, distance from the centre to the right."""
    spots = _spots(star, _strays(star, walk))
    bottom = min(y for _, y in spots.values())
    axes.set_xlim(-0.55, _right(star))
    axes.set_ylim(bottom - 0.62, (len(star.arms) - 1) / 2 * _spacing(star) + 0.62)
    axes.set_aspect("equal")
    axes.set_axis_off()
    _line(axes, [spots[node] for node in star.path], HIGHLIGHT, 15.0, 1)
    for parent, child in sorted(star.edges):
        _line(axes, [spots[parent], spots[child]], FAINT, 1.6, 2)
    if walk is not None and mark is not None:
        _draw_walk(axes, star, walk, mark, spots)
    written = set(walk.nodes) if walk is not None else set()
    for node, spot in spots.items():
        known = node == star.start or node in star.places
        _draw_node(axes, node, spot, known, mark.colour if mark is not None and node in written else QUIET)
    x, y = spots[star.goal]
    axes.add_patch(Circle((x, y), _RING, fill=False, edgecolor=GOAL, linewidth=2.4, zorder=6))
    ends_here = walk is not None and walk.nodes[-1:] == (star.goal,)
    label = ("goal ✓" if walk is not None and walk.right else "goal ✗") if ends_here else "goal"
    axes.annotate(label, (x + _RADIUS + 0.16, y), va="center", ha="left", fontsize=11, fontweight="bold", zorder=7)
    if walk is not None and walk.nodes and not walk.right:
        x, y = spots[walk.nodes[-1]]
        if walk.nodes[-1] != star.goal:
            axes.annotate("✗", (x + _RADIUS + 0.12, y), va="center", ha="left", fontsize=15, zorder=7)


def _strays(star: Star, walk: Walk | None) -> dict[str, int]:
    """Symbols that were written but are not nodes of the graph, each with the first position it was written at."""
    if walk is None:
        return {}
    found: dict[str, int] = {}
    for at, node in enumerate(walk.nodes):
        if node != star.start and node not in star.places:
            found.setdefault(node, at)
    return found


def _spots(star: Star, strays: dict[str, int]) -> dict[str, Point]:
    top, spacing, fan = (len(star.arms) - 1) / 2, _spacing(star), _fan(star) - 1.0
    spots: dict[str, Point] = {star.start: (0.0, 0.0)}
    for node, (arm, distance) in star.places.items():
        spots[node] = (fan + distance, (top - arm) * spacing)
    for node, position in strays.items():
        spots[node] = (fan + position, -(top + 1.0) * spacing)
    return spots


def _line(axes: Axes, points: list[Point], colour: str, width: float, layer: float) -> None:
    axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, solid_capstyle="round",
              solid_joinstyle="round", zorder=layer)  # fmt: skip


def _draw_walk(axes: Axes, star: Star, walk: Walk, mark: Mark, spots: dict[str, Point]) -> None:
    for here, there, valid in zip(walk.nodes, walk.nodes[1:], walk.valid, strict=False):
        if here == there:
            continue
        # Jumps bend away from the arms, so that they cross no node that they do not visit.
        bend = min(0.45, 0.9 / math.dist(spots[here], spots[there]))
        arrow = FancyArrowPatch(
            spots[here],
            spots[there],
            arrowstyle="-|>,head_length=5,head_width=3",
            connectionstyle="arc3,rad=0" if valid else f"arc3,rad={bend:.3f}",
            linestyle="solid" if valid else (0, (3.0, 2.5)),
            linewidth=2.6 if valid else 1.7,
            color=mark.colour,
            patchA=Circle(spots[here], _RADIUS, transform=axes.transData),
            patchB=Circle(spots[there], _RING if there == star.goal else _RADIUS, transform=axes.transData),
            shrinkA=0,
            shrinkB=1,
            zorder=4 if valid else 5,
            mutation_scale=1.0,
        )
        axes.add_patch(arrow)


def _draw_node(axes: Axes, node: str, spot: Point, known: bool, colour: str) -> None:
    style = "solid" if known else (0, (2.0, 1.5))
    touched = colour != QUIET
    axes.add_patch(Circle(spot, _RADIUS, facecolor="white", edgecolor=colour, linestyle=style,
                          linewidth=2.0 if touched else 1.1, zorder=6))  # fmt: skip
    label = plain(node, 4)
    axes.annotate(label, spot, va="center", ha="center", fontsize=12 if len(label) < 3 else 9, zorder=7,
                  fontweight="bold" if touched else "normal", color=INK)  # fmt: skip
