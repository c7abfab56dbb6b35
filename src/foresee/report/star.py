"""A path-star example read back from its text, and what a model wrote on it, told step by step.

This reads text alone (``u,v|u,v|.../start,goal=``, or ``start,goal/u,v|u,v|...=`` where the query comes first; edges in
any order), so a report needs neither the task's code nor its vocabulary, and an example of any other task is simply not
a star. Neither is a graph whose arms branch, nor one whose goal is not the end of an arm: what is right there is more
than the prompt says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

_EDGES, _QUERY = r"(?P<edges>[^/=|,]+,[^/=|,]+(?:\|[^/=|,]+,[^/=|,]+)*)", r"(?P<start>[^/=|,]+),(?P<goal>[^/=|,]+)"
_FORMS = re.compile(f"{_EDGES}/{_QUERY}="), re.compile(f"{_QUERY}/{_EDGES}=")


@dataclass(frozen=True)
class PromptStar:
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


def read_star(prompt: str) -> PromptStar | None:
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
    return PromptStar(start, goal, tuple(arms), ends.index(goal))


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


def follow(star: PromptStar, wrote: str) -> Walk:
    """What a written answer does on the star."""
    nodes = nodes_of(wrote)
    valid = tuple((here, there) in star.edges for here, there in pairwise(nodes))
    right = nodes == star.path
    return Walk(nodes, right, valid, _sentence(star, nodes, valid, right))


def _sentence(star: PromptStar, nodes: tuple[str, ...], valid: tuple[bool, ...], right: bool) -> str:
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


# Drawn ---------------------------------------------------------------------------------------------------------------

UNIT, RADIUS, RING, TOP, LEFT = 40.0, 12.0, 16.0, 22.0, 20.0
"""Distance between neighbours on an arm; radii of a node and of the ring around the goal; the centre's place."""


class Node(NamedTuple):
    """A circle with its name. A stray is a symbol that was written but is no node of the graph."""

    name: str
    x: float
    y: float
    stray: bool
    written: bool


class Arrow(NamedTuple):
    """The paths of a step that was written and of its head; ``valid`` where the graph has that edge."""

    line: str
    head: str
    valid: bool


class StarDrawing(NamedTuple):
    """What ``templates/star.svg.j2`` draws: paths of the edges and of the right answer, nodes, arrows; ``end`` is the
    node at which the walk ended."""

    width: float
    height: float
    edges: str
    band: str
    nodes: list[Node]
    arrows: list[Arrow]
    goal: Node
    end: Node | None


def draw_star(star: PromptStar, walk: Walk) -> StarDrawing:
    """The graph with a walk over it: centre on the left, a row an arm, distance from the centre to the right, strays in
    a row below. Places are complex numbers."""
    arms, row = len(star.arms), 36.0 if len(star.arms) <= 5 else 30.0
    fan = LEFT + max(1.0, 0.17 * (arms - 1)) * UNIT  # many arms fan out: their first nodes stand further away
    spots = {star.start: complex(LEFT, TOP + (arms - 1) / 2 * row)}
    spots |= {node: complex(fan + (far - 1) * UNIT, TOP + arm * row) for node, (arm, far) in star.places.items()}
    known, right, bottom = set(spots), max(spot.real for spot in spots.values()) + 74.0, TOP + (arms - 1) * row
    for at, node in enumerate(walk.nodes):
        spots.setdefault(node, complex(LEFT if at == 0 else fan + (at - 1) * UNIT, bottom + row))
    nodes = {
        name: Node(name, spot.real, spot.imag, name not in known, name in walk.nodes) for name, spot in spots.items()
    }
    arrows = [
        _arrow(spots[here], spots[there], RING if there == star.goal else RADIUS, valid)
        for here, there, valid in zip(walk.nodes, walk.nodes[1:], walk.valid, strict=False)
        if here != there
    ]
    return StarDrawing(
        width=max(right, *(spot.real + 40.0 for spot in spots.values())),
        height=max(spot.imag for spot in spots.values()) + 22.0,
        edges="".join(_path(spots[parent], spots[child]) for parent, child in sorted(star.edges)),
        band=_path(*(spots[node] for node in star.path)),
        nodes=list(nodes.values()), arrows=arrows, goal=nodes[star.goal],
        end=nodes[walk.nodes[-1]] if walk.nodes else None,
    )  # fmt: skip


def _path(*points: complex) -> str:
    return "M" + "L".join(f"{point.real:.4g} {point.imag:.4g}" for point in points)


def _arrow(here: complex, there: complex, radius: float, valid: bool) -> Arrow:
    """Along an edge of the graph it is straight; a jump bends away from the arms, so that it crosses no node that it
    does not visit."""
    across = there - here
    bend = 0.0 if valid else min(0.45, 34.0 / abs(across))
    middle = (here + there) / 2 - 1j * bend * across
    out, into = (middle - here) / abs(middle - here), (there - middle) / abs(there - middle)
    tip = there - into * (radius + 1)
    base = tip - into * 6
    line = f"{_path(here + out * RADIUS)}Q{_path(middle, base)[1:].replace('L', ' ')}"
    return Arrow(line, _path(tip, base + 3.6j * into, base - 3.6j * into) + "Z", valid)
