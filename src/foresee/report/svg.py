"""Small charts as SVG of our own: light, coloured by the page's style sheet, and the same bytes for the same input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from foresee.report.markup import text

Point = tuple[float, float]

MOST_POINTS = 80
"""Points of a line beyond which it is thinned; a chart is some 300 units wide."""


def short(value: float) -> str:
    """A coordinate: one decimal, and none where it is whole."""
    shown = f"{value:.1f}"
    return shown.removesuffix(".0") if shown != "-0.0" else "0"


def path(points: Iterable[Point], *, close: bool = False) -> str:
    """The ``d`` of a path through points."""
    return "M" + "L".join(f"{short(x)} {short(y)}" for x, y in points) + ("Z" if close else "")


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many points: the first, the last, and the lowest and highest of every stretch between, so that no
    spike is lost."""
    if len(points) <= most:
        return list(points)
    inner = points[1:-1]
    stretches = (most - 2) // 2
    kept = [points[0]]
    for place in range(stretches):
        part = inner[place * len(inner) // stretches : (place + 1) * len(inner) // stretches]
        extremes = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        kept += sorted(extremes)
    return [*kept, points[-1]]


def ticks(last: float, most: int = 4) -> list[float]:
    """Round values from 0 to ``last``, at most ``most`` steps between them."""
    if last <= 0:
        return [0.0]
    rough = last / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough - 1e-12)
    return [step * place for place in range(int(last / step + 1e-9) + 1)]


class Plot:
    """A chart with both axes; what is drawn is added in order. Units are those of the drawing: some CSS pixels."""

    def __init__(
        self, last_x: float, *, first_x: float = 0.0, low: float = 0.0, high: float = 1.0, width: float = 340.0,
        height: float = 214.0, left: float = 34.0, right: float = 14.0, bottom: float = 40.0,
    ) -> None:  # fmt: skip
        self.width, self.height, self.left, self.top = width, height, left, 10.0
        self.right, self.bottom = width - right, height - bottom
        self.first_x, self.last_x, self.low, self.high = first_x, max(last_x, first_x + 1e-9), low, high
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        """Across."""
        return self.left + (value - self.first_x) / (self.last_x - self.first_x) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Down."""
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def add(self, part: str) -> None:
        """Ready-made SVG."""
        self.parts.append(part)

    def rates(self) -> None:
        """Grid and labels from 0 to 1."""
        self.levels([(0.0, "0"), (0.25, "0.25"), (0.5, "0.5"), (0.75, "0.75"), (1.0, "1")])

    def levels(self, labelled: Iterable[tuple[float, str]]) -> None:
        """Grid lines across, each with its label."""
        labelled = list(labelled)
        lines = "".join(f"M{short(self.left)} {short(self.y(at))}H{short(self.right)}" for at, _ in labelled)
        self.add(f'<path class="grid" d="{lines}"/>')
        for at, label in labelled:
            self.label(self.left - 6, self.y(at) + 4, label, "end")

    def steps(self, name: str = "training steps") -> None:
        """Round numbers of steps below, and what they are."""
        places = ticks(self.last_x)
        for at in places:
            # The last label ends at the edge, so that it never leaves the drawing.
            edge = self.x(at) > self.right - 14
            self.label(
                self.right + 8 if edge else self.x(at), self.bottom + 16, f"{at:,.10g}", "end" if edge else "middle"
            )
        self.below(name)

    def below(self, name: str) -> None:
        """The name of the axis across."""
        self.label((self.left + self.right) / 2, self.height - 5, name, "middle", "axis")

    def label(self, x: float, y: float, said: str, anchor: str = "start", kind: str = "") -> None:
        """Text, escaped here."""
        styled = f' class="{kind}"' if kind else ""
        anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.add(f'<text x="{short(x)}" y="{short(y)}"{anchored}{styled}>{text(said)}</text>')

    def chance(self, chance: float) -> None:
        """A dotted line."""
        self.add(f'<path class="chance" d="M{short(self.left)} {short(self.y(chance))}H{short(self.right)}"/>')

    def chance_label(self, chance: float) -> None:
        """The label of that line, to be drawn over everything else."""
        above = self.y(chance) - 5 > self.top + 8
        self.label(self.right, self.y(chance) + (-5 if above else 14), f"chance {chance:.3g}", "end", "halo")

    def note(self, said: str) -> None:
        """A remark in the middle, where there is nothing to draw."""
        self.label((self.left + self.right) / 2, (self.top + self.bottom) / 2, said, "middle")

    def to_pixels(self, points: Iterable[Point]) -> list[Point]:
        """Values as places in the drawing."""
        return [(self.x(x), self.y(y)) for x, y in points]

    def svg(self, description: str, kind: str = "plot") -> str:
        """The element; ``description`` is what a screen reader says."""
        return drawing(self.width, self.height, "".join(self.parts), description, kind)


def drawing(width: float, height: float, inside: str, description: str, kind: str) -> str:
    """An SVG element that takes the width it is given."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {short(width)} {short(height)}" role="img" '
        f'aria-label="{text(description)}">{inside}</svg>'
    )
