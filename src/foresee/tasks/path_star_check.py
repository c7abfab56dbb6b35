"""Whether the labels of a line are an example of a path-star task, and what is wrong where they are not.

Every reason is raised as a ``RequestError`` of one sentence that names neither the file nor the line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from foresee.core.errors import RequestError
from foresee.tasks.path_star_draw import Generalised
from foresee.tasks.path_star_graphs import EdgeOrder, Shape
from foresee.tasks.path_star_text import Example

Edges = list[tuple[int, int]]


def check(example: Example, shapes: Mapping[int, Shape], order: EdgeOrder, generalised: Generalised) -> None:
    """Raises ``RequestError`` unless the edges form one of ``shapes`` (by their number of edges) around the start, in
    this order, with the goal where ``generalised`` lets it be, and the answer, where there is one, is right."""
    edges, start, goal = example.edges, example.start, example.goal
    shape = shapes.get(len(edges))
    if shape is None:
        raise RequestError(_wrong_number(edges, list(shapes.values())))
    entered = {child for _, child in edges}
    if start in entered or len(entered) < len(edges) or wrong_node(start, edges, shape):
        raise RequestError(misshapen(example, shape))
    if order != "shuffled":
        _check_order(edges, start, order, shape.length - 1)
    parent = {child: node for node, child in edges}
    left = set(parent.values())
    ends = [child for child in parent if child not in left]
    if goal not in (ends if generalised == "none" else parent):
        where = "the end of an arm" if generalised == "none" else "on an arm, the centre aside"
        raise RequestError(f"the goal {goal} is not {where}; the arms end in {', '.join(map(str, ends))}")
    paths = [path_to(end, parent) for end in (ends if generalised == "arm" else [goal])]
    right = next(path for path in paths if goal in path)
    if example.answer and example.answer != right:
        raise RequestError(wrong_path(example.answer, right))


def path_to(node: int, parent: Mapping[int, int]) -> list[int]:
    """The path to a node from the one that no edge enters."""
    path = [node]
    while path[-1] in parent:
        path.append(parent[path[-1]])
    return path[::-1]


def wrong_node(start: int, edges: Edges, shape: Shape) -> str | None:
    """The first node around ``start``, nearest first, that has not as many children as in ``shape``, and how many it
    has; None where there is none. No node is entered twice, and ``start`` not at all."""
    children: dict[int, list[int]] = {}
    for node, child in edges:
        children.setdefault(node, []).append(child)
    level = [start]
    for distance in range(shape.length):
        wanted = shape.children(distance) if distance < shape.length - 1 else 0
        for node in level:
            if len(children.get(node, [])) != wanted:
                has = f"node {node} at distance {distance} from the centre is left by {len(children.get(node, []))}"
                return f"{has} edges, where {wanted} must be"
        level = [child for node in level for child in children.get(node, [])]
    return None


def _check_order(edges: Edges, start: int, order: EdgeOrder, steps: int) -> None:
    """Raises ``RequestError`` unless arms, of ``steps`` edges each, go outwards: one after the other, or mixed."""
    reached = {start}
    for place, (node, child) in enumerate(edges):
        if order == "arm-wise":
            before = edges[place - 1][1] if place % steps else start
            if node != before:
                raise RequestError(
                    f"edge {place + 1} is {node},{child}, but with order=arm-wise it must leave {before}"
                )
        elif node not in reached:
            raise RequestError(
                f"edge {place + 1} is {node},{child}, but with order=causal-wise the edge into {node} must come before"
            )
        reached.add(child)


def _wrong_number(edges: Edges, shapes: list[Shape]) -> str:
    """Why there are not as many edges as in any of these."""
    largest = shapes[-1]
    named = f"degree={largest.degree},length={largest.length}"
    if largest.splits:
        named += f",splits={'+'.join(map(str, largest.splits))}"
    right = str(largest.edges)
    if len(shapes) > 1:
        named += ",sizes=mixed"
        right = f"a multiple of {largest.degree} up to {right}"
    return f"there are {len(edges)} edges, but {named} has {right}{likeness(edges)}"


def likeness(edges: Edges) -> str:
    """What to say of a graph's size, judged by its edges: nothing where they form no star with arms of one length."""
    centres = {node for node, _ in edges} - {child for _, child in edges}
    if len(centres) != 1:
        return ""
    arms = arms_from(centres.pop(), edges)
    lengths = {len(arm) for arm in arms.values()}
    if len(lengths) != 1 or len(edges) != len(arms) * (min(lengths) - 1):
        return ""
    return f"; the line looks like degree={len(arms)},length={min(lengths)}"


def arms_from(start: int, edges: Edges) -> dict[int, list[int]]:
    """Arms that leave ``start``, by the node they end in; no arm is followed further than there are edges."""
    child = dict(edges)
    arms: dict[int, list[int]] = {}
    for node, first in edges:
        if node == start:
            arm = [start, first]
            while arm[-1] in child and len(arm) <= len(edges):
                arm.append(child[arm[-1]])
            arms[arm[-1]] = arm
    return arms


def misshapen(example: Example, shape: Shape) -> str:
    """Why the edges, right in number, are not arms that leave the start."""
    edges, start = example.edges, example.start
    trees = f" that split at distance {' and '.join(map(str, shape.splits))}" if shape.splits else ""
    arms_text = f"{shape.degree} arm{'s' * (shape.degree > 1)} of {shape.length} nodes{trees}"
    prefix = f"the edges do not form {arms_text}: "
    entered = Counter(child for _, child in edges)
    left = Counter(node for node, _ in edges)
    twice = [node for node, count in entered.items() if count > 1]
    if twice:
        return f"{prefix}node {twice[0]} is entered by {entered[twice[0]]} edges"
    centres = [node for node in left if node not in entered]
    if not centres:
        return f"{prefix}they go round in a circle"
    if len(centres) > 1:
        return f"{prefix}nodes {centres[0]} and {centres[1]} are both entered by no edge, but only the centre may be"
    centre = centres[0]
    reason = wrong_node(centre, edges, shape)
    if reason is None:
        return f"the start {start} is not the centre of the graph, {centre}"
    return prefix + (reason if shape.splits else _no_arms(centre, edges, left, shape))


def _no_arms(centre: int, edges: Edges, left: Counter[int], shape: Shape) -> str:
    """Why edges without a node entered twice are not plain arms around their centre."""
    forks = [node for node, count in left.items() if count > 1 and node != centre]
    if forks:
        return f"node {forks[0]} is left by {left[forks[0]]} edges, but only the centre {centre} may branch"
    arms = arms_from(centre, edges)
    if len(arms) != shape.degree:
        return f"the centre {centre} has {len(arms)}{likeness(edges)}"
    uneven = next(arm for arm in arms.values() if len(arm) != shape.length)
    return f"the arm that ends in {uneven[-1]} has {len(uneven)} nodes"


def wrong_path(answer: list[int], path: list[int]) -> str:
    """Where an answer leaves the path."""
    route = f"the path from {path[0]} to {path[-1]}"
    for step, (written, right) in enumerate(zip(answer, path, strict=False), 1):
        if written != right:
            return f"node {step} of the answer is {written}, but {route} has {right} there"
    return f"the answer has {len(answer)} nodes, but {route} has {len(path)}"
