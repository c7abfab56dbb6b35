"""The answer to a path-star prompt, worked out from its tokens alone. Shares no code with the drawing of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foresee.core.errors import RequestError

if TYPE_CHECKING:
    from foresee.tasks.path_star import PathStar

Pair = tuple[int, int]


def solve(task: PathStar, prompt: list[int]) -> list[int]:
    """The path to the goal, found by walking back from it, and on to the arm's end where the task asks for the whole
    arm. Raises ``RequestError`` on a prompt that holds none."""
    longest = arm_length(task, len(prompt))
    (start, goal), edges = _split(task, prompt)
    parent = {child: node for node, child in edges}
    path = [goal]
    while path[-1] != start and len(path) < longest and path[-1] in parent:
        path.append(parent[path[-1]])
    path.reverse()
    if task.generalised == "arm":
        child = dict(edges)
        # Not from the start: it has several children, and a goal there names no arm.
        while path[-1] != start and len(path) < longest and path[-1] in child:
            path.append(child[path[-1]])
    short = len(path) < (2 if task.generalised == "path" else longest)
    if path[0] != start or short:
        nodes = "2 nodes or more" if task.generalised == "path" else f"{longest} nodes"
        to = "through" if task.generalised == "arm" else "to"
        raise RequestError(f"path-star: no path of {nodes} leads from {start} {to} {goal} in the prompt")
    return path


def arm_length(task: PathStar, prompt_length: int) -> int:
    """Nodes of an arm, which the number of tokens tells where lengths are mixed. Raises ``RequestError`` where no
    prompt of the task has that many."""
    if task.sizes == "fixed":
        if prompt_length != task.prompt_length:
            raise RequestError(f"path-star: the prompt has {prompt_length} tokens, but must have {task.prompt_length}")
        return task.length
    beyond, rest = divmod(prompt_length - 3, 3 * task.degree)
    if rest or not 1 <= beyond <= task.length - 1:
        raise RequestError(
            f"path-star: the prompt has {prompt_length} tokens, but must have 3 and {3 * task.degree} for each of 1 to "
            f"{task.length - 1} steps outwards"
        )
    return beyond + 1


def _split(task: PathStar, prompt: list[int]) -> tuple[Pair, list[Pair]]:
    """The query and the edges."""
    bar, equals, slash = (task.vocab.token(symbol) for symbol in "|=/")
    bars = [bar] * (len(prompt) // 3 - 2)
    if prompt[2::3] != ([slash, *bars, equals] if task.query == "first" else [*bars, slash, equals]):
        form = "start,goal/u,v|u,v|...=" if task.query == "first" else "u,v|u,v|.../start,goal="
        raise RequestError(f"path-star: the prompt's delimiters are not those of {form}")
    pairs = list(zip(prompt[::3], prompt[1::3], strict=True))
    for label in (label for pair in pairs for label in pair):
        if not 0 <= label < task.nodes:
            raise RequestError(f"path-star: token {label} stands where a node label from 0 to {task.nodes - 1} must")
    return pairs.pop(0 if task.query == "first" else -1), pairs
