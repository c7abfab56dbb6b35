"""The text form of path-star examples, ``u,v|u,v|.../start,goal=start,...,goal``, or with the query first
``start,goal/u,v|u,v|...=start,...,goal``.

``path_star_check`` says whether what stands in a line is an example. Every reason is raised as a ``RequestError`` of
one sentence that names neither the file nor the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from foresee.core.errors import RequestError
from foresee.tasks.path_star_prompt import Query

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


def read(line: str, nodes: int, query: Query) -> Example:
    """Reads a line whose labels must lie below ``nodes``. Says nothing about the graph: ``path_star_check`` does."""
    graph, ends, path = _parts(line.strip(), query)
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
    where = "before '/'" if query == "first" else "between '/' and '='"
    pair = ends.split(",")
    if len(pair) != 2:
        raise RequestError(f"{shown(ends)} stands {where}, where start and goal joined by a comma must")
    try:
        start, goal = known[pair[0]], known[pair[1]]
    except KeyError as error:
        raise not_a_label(error.args[0], nodes, f"the query {where}") from None
    try:
        answer = [known[text] for text in path.split(",")] if path else []
    except KeyError as error:
        raise not_a_label(error.args[0], nodes, "the answer") from None
    return Example(edges, start, goal, answer)


def _parts(line: str, query: Query) -> tuple[str, str, str]:
    """Edges, query and answer of a line."""
    graph, ends = "the edges", "the start and the goal"
    order, form = (graph, ends), "u,v|u,v|.../start,goal=start,...,goal"
    if query == "first":
        order, form = (ends, graph), "start,goal/u,v|u,v|...=start,...,goal"
    before, slash, rest = line.partition("/")
    after, equals, path = rest.partition("=")
    if not slash:
        raise RequestError(f"there is no '/' after {order[0]}; a line reads {form}")
    if not equals:
        raise RequestError(f"there is no '=' after {order[1]}; a line reads {form}")
    return (after, before, path) if query == "first" else (before, after, path)


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
