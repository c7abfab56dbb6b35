"""Answers to prompts of in-weights path-star, from their tokens and the graph. Shares no code with the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foresee.core.errors import RequestError

if TYPE_CHECKING:
    from foresee.tasks.in_weights_path_star import InWeightsPathStar

EDGE, PATH, PAUSE = "edge:", "path:", "_"


def asks(task: InWeightsPathStar, prompt: Sequence[int]) -> tuple[str, int]:
    """``edge:`` or ``path:``, and the node or goal that a prompt names. Raises ``RequestError`` on anything else."""
    symbols = task.vocab.decode([int(token) for token in prompt])
    if len(symbols) == 3 and symbols[0] == EDGE and symbols[2] == "=" and symbols[1].isdecimal():
        node = int(symbols[1])
        left = task.parent.keys() if task.directions == "backward" else task.inner
        if task.directions != "both" and node not in left:
            raise RequestError(f"node {node} has no edge that goes {task.directions}")
        return EDGE, node
    rest = [PAUSE] * task.pauses + ["="]
    named = task.prompt_length - len(rest)
    if len(symbols) == task.prompt_length and symbols[0] == PATH and symbols[named:] == rest:
        start, goal = symbols[1], symbols[named - 1]
        if named > 2 and (not start.isdecimal() or int(start) in task.parent):
            raise RequestError(f"the path is asked for from {start}, which is not the centre")
        if not goal.isdecimal() or int(goal) in task.inner:
            raise RequestError(f"{goal} is not the end of an arm")
        return PATH, int(goal)
    form = "goal" if task.query == "goal" else "start,goal"
    raise RequestError(f"in-weights-path-star: the prompt is neither edge:u= nor path:{form}= with its pauses")


def solve(task: InWeightsPathStar, prompt: Sequence[int]) -> list[int]:
    """The path, by walking back from its end; for an edge, the neighbour nearest to the centre. Raises ``RequestError``
    on a prompt that is neither."""
    kind, node = asks(task, prompt)
    if kind == EDGE:
        if task.directions == "forward" or node not in task.parent:
            return [min(child for child, above in task.parent.items() if above == node)]
        return [task.parent[node]]
    path = [node]
    while path[-1] in task.parent:
        path.append(task.parent[path[-1]])
    path.reverse()
    return path if task.answer == "path" else path[1:2]


def verify(task: InWeightsPathStar, prompt: Sequence[int], answer: list[int]) -> bool:
    """Whether it is the path, or for an edge any neighbour in a trained direction."""
    kind, node = asks(task, prompt)
    if kind == PATH:
        return answer == solve(task, prompt)
    if len(answer) != 1:
        return False
    inwards = task.directions != "forward" and task.parent.get(node) == answer[0]
    return inwards or (task.directions != "backward" and task.parent.get(answer[0]) == node)
