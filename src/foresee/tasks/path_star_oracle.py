"""What a path-star prompt says and asks, worked out from its tokens alone: the answer, and what is wrong with a prompt.

Shares no code with the drawing of examples but the shape of the graphs. Every reason is one sentence of a
``RequestError``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.path_star_draw import Shape
from foresee.tasks.text import difference, pairs_in, shown, split_at

if TYPE_CHECKING:
    from foresee.tasks.path_star import PathStar
    from foresee.tasks.star import Star

Edges = list[tuple[int, int]]


def solve(task: PathStar, prompt: list[int]) -> list[int]:
    """The path to the goal, found by walking back from it, and on to the arm's end where the task asks for the whole
    arm. Raises ``RequestError`` on a prompt that holds none."""
    longest = arm_length(task, len(prompt))
    edges, start, goal = read_prompt(task, prompt)
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
    lengths = {task.form.length(edges): shape.length for edges, shape in task.shapes.items()}
    if prompt_length not in lengths:
        right = " or ".join(map(str, lengths))
        raise RequestError(f"path-star: the prompt has {prompt_length} tokens, but must have {right}")
    return lengths[prompt_length]


def read_prompt(task: PathStar | Star, prompt: list[int]) -> tuple[Edges, int, int]:
    """Edges, start and goal; whether the edges form a star is not looked at. Raises ``RequestError`` on tokens of
    another form."""
    bar, equals, slash = (task.vocab.token(symbol) for symbol in "|=/")
    first, bars = task.query == "first", [bar] * (len(prompt) // 3 - 2)
    if prompt[2::3] == ([slash, *bars, equals] if first else [*bars, slash, equals]) and len(prompt) % 3 == 0:
        pairs = list(zip(prompt[::3], prompt[1::3], strict=True))
        if all(0 <= node < task.nodes and 0 <= child < task.nodes for node, child in pairs):
            return pairs, *pairs.pop(0 if first else -1)
    # Something is wrong: what?
    parts = split_at(prompt[:-1], slash)
    if len(parts) != 2 or prompt[-1] != equals:
        before, after = ("the edges", "the start and the goal")[:: -1 if first else 1]
        must = f"there must be one '/' after {before} and '=' after {after}"
        raise RequestError(f"{must}; a line reads {task.text.example}")
    graph, query = parts[::-1] if first else parts
    if len(query) != 2 or not all(0 <= label < task.nodes for label in query):
        where = "before '/'" if first else "between '/' and '='"
        written = shown(task.text.write_prompt(task.vocab.decode(query)))
        raise RequestError(f"{written} stands {where}, where start and goal joined by a comma must")
    return pairs_in(graph, bar, task.nodes, task.vocab), query[0], query[1]


def check(task: PathStar, prompt: list[int]) -> None:
    """Raises ``RequestError`` unless the edges form one of the task's shapes around the start, in its order, with the
    goal where the task lets it be."""
    edges, start, goal = read_prompt(task, prompt)
    shape = task.shapes.get(len(edges))
    if shape is None:
        named = f"degree={task.degree},length={task.length}" + f",splits={task.splits}" * bool(task.shape.splits)
        right = str(task.shape.edges)
        if task.sizes == "mixed":
            named, right = f"{named},sizes=mixed", f"a multiple of {task.degree} up to {right}"
        raise RequestError(f"there are {len(edges)} edges, but {named} has {right}{_likeness(edges)}")
    reason = _misshapen(edges, shape)
    if reason is not None:
        trees = f" that split at distance {' and '.join(map(str, shape.splits))}" if shape.splits else ""
        arms = f"{shape.degree} arm{'s' * (shape.degree > 1)} of {shape.length} nodes{trees}"
        raise RequestError(f"the edges do not form {arms}: {reason}{_likeness(edges)}")
    if [start] != _centres(edges):
        raise RequestError(f"the start {start} is not the centre of the graph, {_centres(edges)[0]}")
    if task.order != "shuffled":
        _check_order(task, edges, start, shape.length - 1)
    left, entered = {node for node, _ in edges}, [child for _, child in edges]
    ends = [child for child in entered if child not in left]
    if goal not in (ends if task.generalised == "none" else entered):
        where = "the end of an arm" if task.generalised == "none" else "on an arm, the centre aside"
        raise RequestError(f"the goal {goal} is not {where}; the arms end in {', '.join(map(str, ends))}")


def fault(vocab: Vocabulary, right: list[int], answer: Sequence[int]) -> str | None:
    """Why an answer is not the path ``right``; None where it is."""
    if [int(token) for token in answer] == right:
        return None
    return difference(vocab.decode(answer), vocab.decode(right), f"the path from {right[0]} to {right[-1]}", "node")


def children_of(edges: Edges) -> dict[int, list[int]]:
    """The nodes that edges enter, by the node that they leave."""
    children: dict[int, list[int]] = {}
    for node, child in edges:
        children.setdefault(node, []).append(child)
    return children


def _centres(edges: Edges) -> list[int]:
    """Nodes that edges leave and none enters."""
    entered = {child for _, child in edges}
    return list(dict.fromkeys(node for node, _ in edges if node not in entered))


def _misshapen(edges: Edges, shape: Shape) -> str | None:
    """Why edges, right in number, are not arms that leave one centre; None where they are."""
    node, times = Counter(child for _, child in edges).most_common(1)[0]
    if times > 1:
        return f"node {node} is entered by {times} edges"
    level = _centres(edges)
    if not level:
        return "they go round in a circle"
    if len(level) > 1:
        return f"nodes {level[0]} and {level[1]} are both entered by no edge, but only the centre may be"
    children = children_of(edges)
    for distance in range(shape.length):
        wanted = shape.children(distance)
        for node in level:
            if (count := len(children.get(node, []))) != wanted:
                at = f"at distance {distance} from the centre" if distance else "in the centre"
                return f"node {node} {at} is left by {count} edges, where {wanted} must be"
        level = [child for node in level for child in children.get(node, [])]
    return None


def _check_order(task: PathStar, edges: Edges, start: int, steps: int) -> None:
    """Raises ``RequestError`` unless arms, of ``steps`` edges each, go outwards: one after the other, or mixed."""
    reached = {start}
    for place, (node, child) in enumerate(edges):
        before = edges[place - 1][1] if place % steps else start
        if task.order == "arm-wise" and node != before:
            must = f"it must leave {before}"
        elif task.order == "causal-wise" and node not in reached:
            must = f"the edge into {node} must come before"
        else:
            reached.add(child)
            continue
        raise RequestError(f"edge {place + 1} is {node},{child}, but with order={task.order} {must}")


def _likeness(edges: Edges) -> str:
    """What to say of a graph's size, judged by its edges: nothing where they form no star with arms of one length."""
    child, centres = dict(edges), _centres(edges)
    lengths = []
    for node, end in edges:
        if node in centres:
            length = 2
            while end in child and length <= len(edges):
                end, length = child[end], length + 1
            lengths.append(length)
    if len(centres) != 1 or len(set(lengths)) != 1 or len(edges) != len(lengths) * (lengths[0] - 1):
        return ""
    return f"; the line looks like degree={len(lengths)},length={lengths[0]}"
