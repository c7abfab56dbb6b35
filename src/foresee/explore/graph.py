"""The graph of a path-star prompt, and the prompts on the same graph that ask something else.

All of it is read from tokens. A prompt of another task has no graph, and is shown as a row of symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from foresee.core.errors import RequestError
from foresee.report.star import PromptStar, follow
from foresee.tasks.base import Task
from foresee.tasks.path_star import PathStar
from foresee.tasks.path_star_draw import Tokens


@dataclass(frozen=True)
class Graph:
    """Tokens of a star, or of a tree where arms split: paths from the start to each end, the nodes that a prompt may
    ask for, and whether prompts hold the edges in any order."""

    start: int
    goal: int
    paths: tuple[tuple[int, ...], ...]
    goals: tuple[int, ...]
    edges_may_move: bool


def read_graph(task: Task, prompt: Sequence[int]) -> Graph | None:
    """The graph in a prompt that the task has accepted; None where the task has none."""
    if not isinstance(task, PathStar):
        return None
    tokens, edges = _row(task, prompt)
    start, goal = (int(each[0]) for each in task.form.query_in(tokens, edges))
    edge_from, edge_to = task.form.edges_in(tokens, edges)
    found = task.shapes[edges].paths_in(edge_from, edge_to, numpy.array([start]))[0]
    paths = tuple(tuple(map(int, path)) for path in found)
    ends = tuple(path[-1] for path in paths)
    anywhere = tuple(dict.fromkeys(node for path in paths for node in path[1:]))
    return Graph(start, goal, paths, ends if task.generalised == "none" else anywhere, task.order == "shuffled")


def replace_goal(task: Task, prompt: Sequence[int], goal: int) -> list[int]:
    """The same prompt, asking for another node. Raises ``RequestError`` where the prompt may not ask for it."""
    star, graph, tokens, edges = _require_graph(task, prompt)
    if goal not in graph.goals:
        allowed = ", ".join(task.vocab.decode(graph.goals))
        raise RequestError(f"{task.vocab.decode([goal])[0]} cannot be the goal; it must be one of {allowed}")
    star.form.query_in(tokens, edges)[1][...] = goal
    return [int(token) for token in tokens[0]]


def shuffle_edges(task: Task, prompt: Sequence[int], rng: numpy.random.Generator) -> list[int]:
    """The same graph and question with the edges in another order. Raises ``RequestError`` where the order of edges is
    part of the task."""
    star, graph, tokens, edges = _require_graph(task, prompt)
    if not graph.edges_may_move:
        raise RequestError(f"this task writes its edges in one order ({star.order}), so they cannot be shuffled")
    order = rng.permutation(edges)
    for column in star.form.edges_in(tokens, edges):
        column[...] = column[:, order]
    return [int(token) for token in tokens[0]]


def _require_graph(task: Task, prompt: Sequence[int]) -> tuple[PathStar, Graph, Tokens, int]:
    graph = read_graph(task, prompt)
    if graph is None or not isinstance(task, PathStar):
        raise RequestError("this task has no graph, so no goal can be chosen and no edges shuffled; draw a new example")
    return task, graph, *_row(task, prompt)


def describe_answer(task: Task, graph: Graph | None, answer: Sequence[int]) -> str | None:
    """What a whole answer does on a star, in words without a full stop; None where that is not defined: without plain
    arms that are asked for by their ends, or where the answer does not begin at the centre."""
    if graph is None or not isinstance(task, PathStar) or task.answer_length == 1:
        return None
    if task.generalised != "none" or task.shape.splits:
        return None
    start, goal = task.vocab.decode([graph.start, graph.goal])
    arms = tuple(tuple(task.vocab.decode(path[1:])) for path in graph.paths)
    goal_arm = next(place for place, path in enumerate(graph.paths) if path[-1] == graph.goal)
    return follow(PromptStar(start, goal, arms, goal_arm), ",".join(task.vocab.decode(answer))).said


def _row(task: PathStar, prompt: Sequence[int]) -> tuple[Tokens, int]:
    """[1, P] tokens, and how many edges they hold."""
    tokens = numpy.array([prompt], numpy.int64)
    return tokens, int(task.form.edge_counts(numpy.array([len(prompt)]))[0])
