"""The path that a minimal-planning prompt asks for, worked out from its tokens. Shares no code with the drawing of
examples."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from foresee.core.errors import RequestError

if TYPE_CHECKING:
    from foresee.tasks.minimal_planning import MinimalPlanning

Edge = tuple[int, int]


def path_in(task: MinimalPlanning, prompt: list[int]) -> list[int]:
    """The nodes from start to goal. Raises ``RequestError`` on a prompt of another form or where there is no path of
    ``steps`` edges."""
    slash, bar, equals = (task.vocab.token(symbol) for symbol in "/|=")
    marks = [slash] * (task.edges - 1) + [bar, equals]
    if len(prompt) != task.prompt_length or prompt[2::3] != marks:
        raise RequestError(f"minimal-planning: a prompt is {task.edges} edges and a query, u,v/u,v/.../u,v|start,goal=")
    *edges, (start, goal) = zip(prompt[::3], prompt[1::3], strict=True)
    if not all(0 <= label < task.nodes for pair in (*edges, (start, goal)) for label in pair):
        raise RequestError(f"minimal-planning: every node of a prompt must be a label from 0 to {task.nodes - 1}")
    onward: dict[int, list[int]] = {}
    for node, child in edges:
        onward.setdefault(node, []).append(child)
    reached = [[start]]
    for _ in range(task.steps):
        # Two paths that cross once give at most two ways on, so this stays small; other graphs are cut off.
        reached = [[*path, child] for path in reached[: task.edges] for child in onward.get(path[-1], [])]
    for path in reached:
        if path[-1] == goal:
            return path
    raise RequestError(f"minimal-planning: no path of {task.steps} edges leads from {start} to {goal}")


def require_crossing(edges: list[Edge], path: list[int]) -> None:
    """Raises ``RequestError`` unless the edges that ``path`` does not use are another path, as long, that shares one
    node with it at the same place."""
    used = list(pairwise(path))
    child = {node: after for node, after in edges if (node, after) not in used}
    starts = set(child) - set(child.values())
    other = [starts.pop()] if len(starts) == 1 else []
    while other and other[-1] in child and len(other) <= len(path):
        other.append(child[other[-1]])
    shared = [place for place, (here, there) in enumerate(zip(path, other, strict=False)) if here == there]
    alone = Counter([*path, *other]).most_common(2)
    if len(other) != len(path) or len(shared) != 1 or shared[0] == len(path) - 1 or alone[1:][0][1] > 1:
        raise RequestError(
            f"the edges do not form two paths of {len(path) - 1} edges that cross at one node before their ends"
        )
