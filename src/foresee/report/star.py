"""A path-star example read back from its text, and what a model wrote on it, told step by step.

This reads text alone (``u,v|u,v|.../start,goal=``, or ``start,goal/u,v|u,v|...=`` where the query comes first; edges in
any order), so a report needs neither the task's code nor its vocabulary, and an example of any other task is simply not
a star. Neither is a graph whose arms branch, nor one whose goal is not the end of an arm: what is right there is more
than the prompt says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

_EDGES, _QUERY = r"(?P<edges>[^/=|,]+,[^/=|,]+(?:\|[^/=|,]+,[^/=|,]+)*)", r"(?P<start>[^/=|,]+),(?P<goal>[^/=|,]+)"
_FORMS = re.compile(f"{_EDGES}/{_QUERY}="), re.compile(f"{_QUERY}/{_EDGES}=")


@dataclass(frozen=True)
class Star:
    """Arms from the first node after the centre to the leaf; the arm that ends in the goal is ``arms[goal_arm]``."""

    start: str
    goal: str
    arms: tuple[tuple[str, ...], ...]
    goal_arm: int

    @cached_property
    def places(self) -> Mapping[str, tuple[int, int]]:
        """(arm, distance from the centre) of every node but the centre."""
        return {node: (arm, at) for arm, nodes in enumerate(self.arms) for at, node in enumerate(nodes, start=1)}

    @cached_property
    def edges(self) -> frozenset[tuple[str, str]]:
        """Edges as (parent, child)."""
        walks = [(self.start, *nodes) for nodes in self.arms]
        return frozenset((walk[at], walk[at + 1]) for walk in walks for at in range(len(walk) - 1))

    @property
    def path(self) -> tuple[str, ...]:
        """The one right answer."""
        return (self.start, *self.arms[self.goal_arm])


def read_star(prompt: str) -> Star | None:
    """The star in a prompt, arms in the order in which the prompt first names them; None where there is none."""
    # One edge is a graph whose query reads the same, so that a prompt that has both forms means one thing.
    match = next((found for form in _FORMS if (found := form.fullmatch(prompt.strip()))), None)
    if match is None:
        return None
    start, goal = match["start"], match["goal"]
    children: dict[str, list[str]] = {}
    for edge in match["edges"].split("|"):
        parent, child = edge.split(",")
        children.setdefault(parent, []).append(child)
    arms: list[tuple[str, ...]] = []
    seen = {start}
    for node in children.get(start, []):
        arm: list[str] = []
        following = [node]
        while len(following) == 1 and following[0] not in seen:
            seen.add(following[0])
            arm.append(following[0])
            following = children.get(following[0], [])
        if following:
            return None
        arms.append(tuple(arm))
    ends = [arm[-1] for arm in arms]
    reached = sum(len(arm) for arm in arms)
    if goal not in ends or reached != sum(len(each) for each in children.values()):
        return None
    return Star(start, goal, tuple(arms), ends.index(goal))


def nodes_of(text: str) -> tuple[str, ...]:
    """The symbols of an answer in text form."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


@dataclass(frozen=True)
class Walk:
    """What a model wrote, against the star it was given."""

    nodes: tuple[str, ...]
    right: bool
    valid: tuple[bool, ...]
    """Whether each transition is an edge of the graph."""
    said: str
    """One plain sentence without a full stop at its end, such as "took the wrong arm and followed it to its end"."""


def follow(star: Star, wrote: str) -> Walk:
    """What a written answer does on the star."""
    nodes = nodes_of(wrote)
    valid = tuple((here, there) in star.edges for here, there in pairwise(nodes))
    right = nodes == star.path
    return Walk(nodes, right, valid, _sentence(star, nodes, valid, right))


def _sentence(star: Star, nodes: tuple[str, ...], valid: tuple[bool, ...], right: bool) -> str:
    if not nodes:
        return "wrote nothing"
    if right:
        return "right: took the goal's arm and walked it to the goal"
    if nodes[0] != star.start:
        return f"wrong from its first symbol: {nodes[0]} is not the centre"
    first = nodes[1] if len(nodes) > 1 else None
    place = star.places.get(first) if first is not None else None
    jumps = valid[1:].count(False)
    jumped = f"then made {jumps} jump{'s' if jumps > 1 else ''} where the graph has no edge"
    if first is None:
        return "stopped at the centre"
    if place is None or place[1] != 1:
        why = "not in the graph" if place is None and first != star.start else "not next to the centre"
        return f"wrote {first} at the branch, which is {why}" + (f", {jumped}" if jumps else "")
    arm, which = place[0], "the goal's arm" if place[0] == star.goal_arm else "a wrong arm"
    if not jumps:
        whole = nodes[1:] == star.arms[arm]
        return f"took {which}, then followed it {'edge by edge to its end' if whole else 'but not to its end'}"
    return f"took {which}, {jumped}"


# Drawn ----------------------------------------------------------------------------------------------------

UNIT, RADIUS, RING, TOP, LEFT = 40.0, 12.0, 16.0, 22.0, 20.0
"""Distance between neighbours on an arm; radii of a node and of the ring around the goal; the centre's place."""

Point = tuple[float, float]


class Node(NamedTuple):
    """A circle with its name; a long one is written smaller."""

    name: str
    x: float
    y: float


class Arrow(NamedTuple):
    """The path of a step that was written and of its head; ``valid`` where the graph has that edge."""

    line: str
    head: str
    valid: bool


@dataclass(frozen=True)
class StarDrawing:
    """Centre on the left, a row an arm, distance from the centre to the right. ``strays`` are symbols that were written
    but are no nodes of the graph, in a row below; ``end`` is the node at which a wrong answer ended, off the goal."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: str
    band: str
    goal: Node
    strays: tuple[Node, ...]
    arrows: tuple[Arrow, ...]
    touched: tuple[Node, ...]
    at_goal: str
    end: Node | None


def draw_star(star: Star, walk: Walk) -> StarDrawing:
    """The graph with a walk over it."""
    arms, row = len(star.arms), 36.0 if len(star.arms) <= 5 else 30.0
    fan = max(1.0, 0.17 * (arms - 1)) * UNIT  # many arms fan out: their first nodes stand further from the centre
    spots: dict[str, Point] = {star.start: (LEFT, TOP + (arms - 1) / 2 * row)}
    for node, (arm, distance) in star.places.items():
        spots[node] = (LEFT + fan + (distance - 1) * UNIT, TOP + arm * row)
    known, bottom = dict(spots), TOP + (arms - 1) * row
    for at, node in enumerate(walk.nodes):
        if node not in spots:
            spots[node] = (LEFT if at == 0 else LEFT + fan + (at - 1) * UNIT, bottom + row)
    strays = [node for node in spots if node not in known]
    arrows = tuple(
        _arrow(spots[here], spots[there], RING if there == star.goal else RADIUS, valid)
        for here, there, valid in zip(walk.nodes, walk.nodes[1:], walk.valid, strict=False)
        if here != there
    )
    at_goal = walk.nodes[-1:] == (star.goal,)
    placed = {name: Node(name, *spot) for name, spot in spots.items()}
    return StarDrawing(
        width=max(
            max(x for x, _ in known.values()) + 74.0, max((spots[each][0] + 40.0 for each in strays), default=0.0)
        ),
        height=bottom + (row if strays else 0.0) + 22.0,
        nodes=tuple(placed[name] for name in known),
        edges="".join(_path(spots[parent], spots[child]) for parent, child in sorted(star.edges)),
        band=_path(*(spots[node] for node in star.path)),
        goal=placed[star.goal],
        strays=tuple(placed[name] for name in strays),
        arrows=arrows,
        touched=tuple(placed[node] for node in dict.fromkeys(walk.nodes)),
        at_goal=(" ✓" if walk.right else " ✗") if at_goal else "",
        end=placed[walk.nodes[-1]] if walk.nodes and not at_goal else None,
    )


def _path(*points: Point, close: bool = False) -> str:
    return "M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in points) + ("Z" if close else "")


def _arrow(here: Point, there: Point, radius: float, valid: bool) -> Arrow:
    """Along an edge of the graph it is straight; a jump bends away from the arms, so that it crosses no node that it
    does not visit."""
    distance = math.dist(here, there)
    along = _unit(here, there)
    bend = 0.0 if valid else min(0.45 * distance, 34.0)
    middle = ((here[0] + there[0]) / 2 + along[1] * bend, (here[1] + there[1]) / 2 - along[0] * bend)
    out, into = _unit(here, middle if bend else there), _unit(middle if bend else here, there)
    start = (here[0] + out[0] * RADIUS, here[1] + out[1] * RADIUS)
    tip = (there[0] - into[0] * (radius + 1), there[1] - into[1] * (radius + 1))
    base = (tip[0] - into[0] * 6, tip[1] - into[1] * 6)
    sides = [(base[0] - into[1] * side, base[1] + into[0] * side) for side in (3.6, -3.6)]
    line = f"{_path(start)}Q{middle[0]:.4g} {middle[1]:.4g} {base[0]:.4g} {base[1]:.4g}" if bend else _path(start, base)
    return Arrow(line, _path(tip, *sides, close=True), valid)


def _unit(here: Point, there: Point) -> Point:
    distance = math.dist(here, there) or 1.0
    return (there[0] - here[0]) / distance, (there[1] - here[1]) / distance
