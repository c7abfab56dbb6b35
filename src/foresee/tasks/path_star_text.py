"""The text form of path-star examples, ``u,v|u,v|.../start,goal=start,...,goal``, and what can be wrong with a line.

Every reason is raised as a ``RequestError`` of one sentence that names neither the file nor the line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from foresee.errors import RequestError

FORM = "u,v|u,v|.../start,goal=start,...,goal"
DELIMITERS = frozenset("|=/")


@dataclass(frozen=True)
class Example:
    """The labels of one line; the answer is empty where the line ends after ``=``."""

    edges: list[tuple[int, int]]
    start: int
    goal: int
    answer: list[int]


def write(prompt: Sequence[str], answer: Sequence[str]) -> str:
    """A line from symbols: a comma between neighbouring labels of the prompt, and between all symbols of the answer."""
    parts = list(prompt[:1])
    for before, symbol in pairwise(prompt):
        parts.append(symbol if before in DELIMITERS or symbol in DELIMITERS else "," + symbol)
    return "".join(parts) + ",".join(answer)


def read(line: str, nodes: int) -> Example:
    """Reads a line whose labels must lie below ``nodes``. Says nothing about the graph: ``check`` does."""
    graph, slash, rest = line.strip().partition("/")
    query, equals, path = rest.partition("=")
    if not slash:
        raise RequestError(f"there is no '/' after the edges; a line reads {FORM}")
    if not equals:
        raise RequestError(f"there is no '=' after the start and the goal; a line reads {FORM}")
    known = label_table(nodes)
    edges: list[tuple[int, int]] = []
    for edge in graph.split("|"):
        pair = edge.split(",")
        if len(pair) != 2 or not pair[0] or not pair[1]:
            raise RequestError(
                f"edge {len(edges) + 1} is {shown(edge)}, but an edge is two labels joined by a comma, as in 32,3"
            )
        try:
            edges.append((known[pair[0]], known[pair[1]]))
        except KeyError as error:
            raise not_a_label(error.args[0], nodes, f"edge {len(edges) + 1}") from None
    ends = query.split(",")
    if len(ends) != 2:
        raise RequestError(f"{shown(query)} stands between '/' and '=', where start and goal joined by a comma must")
    try:
        start, goal = known[ends[0]], known[ends[1]]
    except KeyError as error:
        raise not_a_label(error.args[0], nodes, "the query between '/' and '='") from None
    try:
        answer = [known[text] for text in path.split(",")] if path else []
    except KeyError as error:
        raise not_a_label(error.args[0], nodes, "the answer") from None
    return Example(edges, start, goal, answer)


@lru_cache(maxsize=8)
def label_table(nodes: int) -> dict[str, int]:
    """Labels by their one spelling: plain digits, no sign, space or leading zero (``int`` would let those through)."""
    return {str(value): value for value in range(nodes)}


def not_a_label(text: str, nodes: int, part: str) -> RequestError:
    """Says why ``text``, which stands in ``part`` of the line, is not a label below ``nodes``."""
    if text.isascii() and text.isdecimal() and (text[0] != "0" or text == "0"):
        return RequestError(f"label {shown(text)} in {part} is out of range: nodes={nodes} allows 0 to {nodes - 1}")
    return RequestError(f"label {shown(text)} in {part} is not a whole number written in plain digits")


def shown(text: str) -> str:
    """The text in quotes, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def check(example: Example, degree: int, length: int) -> None:
    """Raises ``RequestError`` unless the edges form ``degree`` arms of ``length`` nodes from the start, one of which
    ends in the goal, and the answer, where there is one, is that arm."""
    edges, start, goal, answer = example.edges, example.start, example.goal, example.answer
    if len(edges) != degree * (length - 1):
        raise RequestError(
            f"there are {len(edges)} edges, but degree={degree},length={length} has {degree * (length - 1)}"
            f"{likeness(edges)}"
        )
    arms = arms_from(start, edges)
    entered = {child for _, child in edges}
    uneven = len(arms) != degree or any(len(arm) != length for arm in arms.values())
    if uneven or start in entered or len(entered) < len(edges):
        raise RequestError(misshapen(example, degree, length))
    if goal not in arms:
        raise RequestError(f"the goal {goal} is not the end of an arm; the arms end in {', '.join(map(str, arms))}")
    if answer and answer != arms[goal]:
        raise RequestError(wrong_path(answer, arms[goal]))


def arms_from(start: int, edges: list[tuple[int, int]]) -> dict[int, list[int]]:
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


def likeness(edges: list[tuple[int, int]]) -> str:
    """What to say of a graph's size, judged by its edges: nothing where they form no star with arms of one length."""
    centres = {node for node, _ in edges} - {child for _, child in edges}
    if len(centres) != 1:
        return ""
    arms = arms_from(centres.pop(), edges)
    lengths = {len(arm) for arm in arms.values()}
    if len(lengths) != 1 or len(edges) != len(arms) * (min(lengths) - 1):
        return ""
    return f"; the line looks like degree={len(arms)},length={min(lengths)}"


def misshapen(example: Example, degree: int, length: int) -> str:
    """Why the edges, right in number, are not arms that leave the start."""
    edges, start = example.edges, example.start
    prefix = f"the edges do not form {degree} arm{'s' * (degree > 1)} of {length} nodes: "
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
    forks = [node for node, count in left.items() if count > 1 and node != centre]
    if forks:
        return f"{prefix}node {forks[0]} is left by {left[forks[0]]} edges, but only the centre {centre} may branch"
    arms = arms_from(centre, edges)
    if len(arms) != degree:
        return f"{prefix}the centre {centre} has {len(arms)}{likeness(edges)}"
    uneven = [arm for arm in arms.values() if len(arm) != length]
    if uneven:
        return f"{prefix}the arm that ends in {uneven[0][-1]} has {len(uneven[0])} nodes"
    return f"the start {start} is not the centre of the graph, {centre}"


def wrong_path(answer: list[int], path: list[int]) -> str:
    """Where an answer leaves the path."""
    route = f"the path from {path[0]} to {path[-1]}"
    for step, (written, right) in enumerate(zip(answer, path, strict=False), 1):
        if written != right:
            return f"node {step} of the answer is {written}, but {route} has {right} there"
    return f"the answer has {len(answer)} nodes, but {route} has {len(path)}"
