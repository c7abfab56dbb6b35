"""Which options of path-star make a graph and a question with one answer."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

from foresee.core.errors import RequestError
from foresee.tasks.path_star_draw import Generalised, Goals
from foresee.tasks.path_star_graphs import EdgeOrder
from foresee.tasks.path_star_prompt import Query

if TYPE_CHECKING:
    from foresee.tasks.path_star import PathStar

Sizes = Literal["fixed", "mixed"]

CHOICES = {
    name: get_args(declared)
    for name, declared in {
        "goals": Goals, "order": EdgeOrder, "query": Query, "generalised": Generalised, "sizes": Sizes,
    }.items()
}  # fmt: skip


def check(task: PathStar) -> None:
    """Raises ``RequestError`` with the first thing that is wrong."""
    if task.degree < 1:
        raise RequestError(f"path-star: degree={task.degree}, but a star needs at least 1 arm")
    if task.length < 2:
        raise RequestError(f"path-star: length={task.length}, but an arm has at least 2 nodes, the centre included")
    for name, choices in CHOICES.items():
        if getattr(task, name) not in choices:
            raise RequestError(f"path-star: {name}={getattr(task, name)!r}, but it must be one of {', '.join(choices)}")
    splits = read_splits(task.splits, task.length)
    _check_splits(task, splits)
    needed = 1 + task.edges
    if task.nodes < needed:
        size = f"degree={task.degree},length={task.length}"
        size, formula = (f"{size},splits={task.splits}", "") if splits else (size, ", 1 + degree * (length - 1)")
        raise RequestError(f"path-star: nodes={task.nodes}, but {size} needs at least {needed} node labels{formula}")


def read_splits(text: str, length: int) -> tuple[int, ...]:
    """Distances in ascending order out of ``1+3`` or ``none``; raises ``RequestError`` where they are not such."""
    if text == "none":
        return ()
    if not re.fullmatch(r"[1-9][0-9]{0,8}(\+[1-9][0-9]{0,8})*", text):
        raise RequestError(
            f"path-star: splits={text!r}, but it must be none or distances from the centre joined by +, as in 1+3"
        )
    distances = tuple(map(int, text.split("+")))
    if any(first >= second for first, second in pairwise(distances)):
        raise RequestError(f"path-star: splits={text}, but each distance must be greater than the one before it")
    if distances[-1] > length - 2:
        children = f"only nodes at distances 1 to {length - 2} have" if length > 2 else "no node of an arm has"
        raise RequestError(f"path-star: splits={text}, but with length={length} {children} children")
    return distances


def _check_splits(task: PathStar, splits: tuple[int, ...]) -> None:
    """Refuses trees together with options that are defined on plain arms only."""
    if not splits:
        return
    for name, plain, why in (
        ("order", "shuffled", "the order of the edges of an arm that is a tree is not defined"),
        ("generalised", "none", "a node above a split does not say which way the answer goes on"),
        ("sizes", "fixed", "where shorter arms split is not defined"),
    ):
        value = getattr(task, name)
        if value != plain:
            given = f"splits={task.splits} cannot be combined with {name}={value}"
            raise RequestError(f"path-star: {given}, since {why}; use {name}={plain}")
