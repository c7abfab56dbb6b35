"""A star on the page: the graph is drawn once, and what each model wrote is laid over it."""

from __future__ import annotations

import math

from foresee.report.markup import text
from foresee.report.star import Star, Walk
from foresee.report.style import Mark, plain
from foresee.report.svg import Point, drawing, path, short

UNIT = 40.0
"""Distance between neighbours on an arm."""
RADIUS = 12.0
RING = 16.0


class StarDrawing:
    """Centre on the left, a row an arm, distance from the centre to the right; coordinates are shared by all."""

    def __init__(self, star: Star, name: str) -> None:
        self.star, self.name = star, name
        arms = len(star.arms)
        self.row = 36.0 if arms <= 5 else 30.0
        # Many arms fan out: their first nodes stand further from the centre.
        fan = max(1.0, 0.17 * (arms - 1)) * UNIT
        middle = 22.0 + (arms - 1) / 2 * self.row
        self.left = 20.0
        self.spots: dict[str, Point] = {star.start: (self.left, middle)}
        for node, (arm, distance) in star.places.items():
            self.spots[node] = (self.left + fan + (distance - 1) * UNIT, 22.0 + arm * self.row)
        self.fan = fan
        self.bottom = 22.0 + (arms - 1) * self.row
        self.width = max(x for x, _ in self.spots.values()) + 74.0

    def shared(self) -> str:
        """The graph, the right path and the goal, to be referred to by ``name``."""
        star = self.star
        band = f'<path class="truepath" d="{path(self.spots[node] for node in star.path)}"/>'
        edges = "".join(self._edge(parent, child) for parent, child in sorted(star.edges))
        nodes = "".join(self._node(node, spot) for node, spot in self.spots.items())
        x, y = self.spots[star.goal]
        goal = f'<circle class="goal" cx="{short(x)}" cy="{short(y)}" r="{RING:g}"/>'
        return f'<g id="{self.name}">{band}<path class="edge" d="{edges}"/>{nodes}{goal}</g>'

    def svg(self, walk: Walk, mark: Mark, description: str) -> str:
        """The graph with a walk over it."""
        strays = self._strays(walk)
        spots = self.spots | strays
        bottom = self.bottom + (self.row if strays else 0.0)
        right = max(self.width, max((x for x, _ in strays.values()), default=0.0) + 40.0)
        drawn = f'<use href="#{self.name}"/>'
        drawn += "".join(self._node(node, spot, "stray") for node, spot in strays.items())
        solid, jumps = "", ""
        for here, there, valid in zip(walk.nodes, walk.nodes[1:], walk.valid, strict=False):
            if here == there:
                continue
            arrow, head = _arrow(spots[here], spots[there], RING if there == self.star.goal else RADIUS, valid)
            drawn += f'<path class="head" d="{head}"/>'
            solid, jumps = (solid + arrow, jumps) if valid else (solid, jumps + arrow)
        drawn += f'<path class="walk" d="{solid}"/>' if solid else ""
        drawn += f'<path class="jump" d="{jumps}"/>' if jumps else ""
        touched = "".join(_ring(spots[node]) for node in dict.fromkeys(walk.nodes))
        drawn += f'<path class="walk" d="{touched}"/>' if touched else ""
        goal_x, goal_y = self.spots[self.star.goal]
        at_goal = walk.nodes[-1:] == (self.star.goal,)
        said = "goal" + ((" ✓" if walk.right else " ✗") if at_goal else "")
        drawn += f'<text class="goalname" x="{short(goal_x + 21)}" y="{short(goal_y + 4)}">{said}</text>'
        if walk.nodes and not at_goal:
            x, y = spots[walk.nodes[-1]]
            drawn += f'<text class="goalname" x="{short(x + 16)}" y="{short(y + 5)}">✗</text>'
        inside = f'<g class="h{mark.hue}">{drawn}</g>'
        # Never blown up on a wide screen, never too small to be read: then it scrolls on its own.
        style = f"max-width:{right * 1.15:.0f}px;min-width:{min(right, 460) * 0.9:.0f}px"
        return drawing(right, bottom + 22.0, inside, description, "star").replace("<svg ", f'<svg style="{style}" ', 1)

    def _edge(self, parent: str, child: str) -> str:
        return path([self.spots[parent], self.spots[child]])

    def _strays(self, walk: Walk) -> dict[str, Point]:
        """Symbols that were written but are no nodes of the graph: a row below, where they were written."""
        found: dict[str, Point] = {}
        for at, node in enumerate(walk.nodes):
            if node not in self.spots and node not in found:
                x = self.left if at == 0 else self.left + self.fan + (at - 1) * UNIT
                found[node] = (x, self.bottom + self.row)
        return found

    def _node(self, node: str, spot: Point, kind: str = "node") -> str:
        label, (x, y) = plain(node, 4), spot
        size = ' class="long"' if len(label) > 2 else ' class="inode"'
        circle = f'<circle class="{kind}" cx="{short(x)}" cy="{short(y)}" r="{RADIUS:g}"/>'
        return f'{circle}<text{size} x="{short(x)}" y="{short(y + 4)}" text-anchor="middle">{text(label)}</text>'


def _ring(spot: Point) -> str:
    x, y = spot
    half = f"a{RADIUS:g} {RADIUS:g} 0 1 0"
    return f"M{short(x - RADIUS)} {short(y)}{half} {2 * RADIUS:g} 0{half} {-2 * RADIUS:g} 0"


def _arrow(here: Point, there: Point, radius: float, valid: bool) -> tuple[str, str]:
    """A line between the edges of two nodes and its head. Along an edge of the graph it is straight; a jump bends away
    from the arms, so that it crosses no node that it does not visit."""
    distance = math.dist(here, there)
    along = ((there[0] - here[0]) / distance, (there[1] - here[1]) / distance)
    bend = 0.0 if valid else min(0.45 * distance, 34.0)
    middle = ((here[0] + there[0]) / 2 + along[1] * bend, (here[1] + there[1]) / 2 - along[0] * bend)
    out, into = _unit(here, middle if bend else there), _unit(middle if bend else here, there)
    start = (here[0] + out[0] * RADIUS, here[1] + out[1] * RADIUS)
    tip = (there[0] - into[0] * (radius + 1), there[1] - into[1] * (radius + 1))
    base = (tip[0] - into[0] * 6, tip[1] - into[1] * 6)
    left, right = (base[0] - into[1] * 3.6, base[1] + into[0] * 3.6), (base[0] + into[1] * 3.6, base[1] - into[0] * 3.6)
    if not bend:
        return path([start, base]), path([tip, left, right], close=True)
    curve = (
        f"M{short(start[0])} {short(start[1])}Q{short(middle[0])} {short(middle[1])} {short(base[0])} {short(base[1])}"
    )
    return curve, path([tip, left, right], close=True)


def _unit(here: Point, there: Point) -> Point:
    distance = math.dist(here, there) or 1.0
    return (there[0] - here[0]) / distance, (there[1] - here[1]) / distance
