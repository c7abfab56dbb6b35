"""Minimal planning: two paths that cross at one node, and the one that leads to the goal.

Made anew from what others say of Ye et al. (2024, MGDM), whose code was not seen; docs/tasks.md says what is ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import NOTHING, Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.tasks.base import Bounds, Labels, Task, WrongTurn, fingerprint_set, label_vocabulary, require_option, tasks
from foresee.tasks.path_star_draw import distinct
from foresee.tasks.path_star_oracle import children_of
from foresee.tasks.text import TextForm, pairs_in, split_at

Edges = list[tuple[int, int]]


@tasks.register("minimal-planning", later=("labels",))
@dataclass(frozen=True, kw_only=True)
class MinimalPlanning(Task):
    """Two directed paths of ``steps`` edges each that share one node, the same number of edges along on both; the
    answer is the edges of the one whose first and last node are asked for, ``u,v/v,w/...``, or exactly backwards.

    The prompt is ``u,v/u,v/.../u,v|start,goal=``, edges of both paths in random order. Tokens 0 .. nodes - 1 are the
    labels, drawn without replacement; ``/``, ``|`` and ``=`` follow. The one decision is which way to go on from the
    crossing. Two problems are the same where their sets of edges are, whichever path is asked for.

    Facts: ``distance`` [B], the planning distance: how many edges lead from the crossing to the goal, drawn uniformly
    from 1 .. ``steps``; ``branch`` [B], the place in the answer of the node after the crossing. At distance 1 that is
    the goal, which stands in the prompt: ``chance`` and ``plateau`` take all other distances for blind.
    """

    summary: ClassVar[str] = "which way on where two paths cross, at a known distance from the goal (Ye et al., MGDM)"
    text = TextForm(
        "u,v/u,v/.../u,v|start,goal=u,v/v,w/...",
        marks=("/", "|", "="), answer_marks=("/", "|", "="), noun="label", item="edge", between="/",
    )  # fmt: skip

    steps: Annotated[int, Bounds(1, 1000)] = 5
    nodes: int = 20
    labels: Labels = "numbers"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self, "nodes", 2 * self.steps + 1, 60_000)
        answer_length, named = 3 * self.steps - 1, 1 / self.steps if self.steps > 1 else 0.0
        self.declare(
            vocab=label_vocabulary(self.labels, self.nodes, "/", "|", "="), chance=(1 + named) / 2,
            prompt_length=3 * self.edges + 3, answer_length=answer_length,
            plateau=(1 - named) * math.log(2) / answer_length,
        )  # fmt: skip

    @property
    def edges(self) -> int:
        """Edges of both paths."""
        return 2 * self.steps

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        steps, places = self.steps, numpy.arange(self.steps + 1)
        labels = distinct(rng, 2 * steps + 1, self.nodes, n).T.astype(numpy.int64)
        distance = rng.integers(1, steps, size=n, endpoint=True)
        crossing = (steps - distance)[:, None]
        path, others = labels[:, : steps + 1], labels[:, steps + 1 :]
        # The other path has labels of its own before and after the crossing, so it needs one fewer.
        own = numpy.take_along_axis(others, numpy.minimum(places - (places > crossing), steps - 1), axis=1)
        other = numpy.where(places == crossing, path, own)
        ends = numpy.concatenate([pairs_along(path), pairs_along(other)], axis=1)
        shuffled = rng.random((n, self.edges)).argsort(axis=1)
        slash, bar, equals = (self.vocab.token(symbol) for symbol in "/|=")
        tokens = numpy.full((n, self.prompt_length + self.answer_length), slash, numpy.int64)
        tokens[:, 3 * self.edges - 1], tokens[:, 3 * self.edges + 2] = bar, equals
        tokens[:, 0 : 3 * self.edges : 3] = numpy.take_along_axis(ends[..., 0], shuffled, axis=1)
        tokens[:, 1 : 3 * self.edges : 3] = numpy.take_along_axis(ends[..., 1], shuffled, axis=1)
        tokens[:, 3 * self.edges], tokens[:, 3 * self.edges + 1] = path[:, 0], path[:, -1]
        tokens[:, self.prompt_length :: 3], tokens[:, self.prompt_length + 1 :: 3] = path[:, :-1], path[:, 1:]
        facts = self._facts(torch.from_numpy(distance))
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.answer_length, facts)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The path's edges, found from the start."""
        slash = self.vocab.token("/")
        return [token for edge in pairwise(self._path(*self._problem(prompt))) for token in (*edge, slash)][:-1]

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        return None if [int(token) for token in answer][::-1] == self.solve(prompt) else super().fault(prompt, answer)

    def check_prompt(self, prompt: Sequence[int]) -> None:
        edges, start, goal = self._problem(prompt)
        path = self._path(edges, start, goal)
        # What the path does not use must be another one, as long, that shares one node with it at the same place.
        used = list(pairwise(path))
        child = {node: after for node, after in edges if (node, after) not in used}
        starts = set(child) - set(child.values())
        other = [starts.pop()] if len(starts) == 1 else []
        while other and other[-1] in child and len(other) <= len(path):
            other.append(child[other[-1]])
        shared = [place for place, (here, there) in enumerate(zip(path, other, strict=False)) if here == there]
        twice = sum(times > 1 for times in Counter([*path, *other]).values())
        if len(other) != len(path) or len(shared) != 1 or shared[0] == len(path) - 1 or twice > 1:
            two = f"two paths of {self.steps} edges that cross at one node before their ends"
            raise RequestError(f"the edges do not form {two}")

    def _problem(self, prompt: Sequence[int]) -> tuple[Edges, int, int]:
        """Edges, start and goal. Raises ``RequestError`` on a prompt of another form."""
        tokens = [int(token) for token in prompt]
        slash, bar, equals = (self.vocab.token(symbol) for symbol in "/|=")
        parts = split_at(tokens[:-1], bar)
        if len(parts) != 2 or tokens[-1] != equals:
            raise RequestError(f"there must be one '|' after the edges; a line reads {self.text.example}")
        edges, query = (pairs_in(part, slash, self.nodes, self.vocab) for part in parts)
        if len(edges) != self.edges or len(query) != 1:
            found = f"{len(edges)} edges and {len(query)} pairs of start and goal"
            raise RequestError(f"the prompt holds {found}, but must hold {self.edges} and 1")
        return edges, *query[0]

    def _path(self, edges: Edges, start: int, goal: int) -> list[int]:
        """The nodes from start to goal. Raises ``RequestError`` where no path of ``steps`` edges leads there."""
        onward = children_of(edges)
        reached = [[start]]
        for _ in range(self.steps):
            # Two paths that cross once give at most two ways on, so this stays small; other graphs are cut off.
            reached = [[*path, child] for path in reached[: self.edges] for child in onward.get(path[-1], [])]
        for path in reached:
            if path[-1] == goal:
                return path
        raise RequestError(f"no path of {self.steps} edges leads from {start} to {goal}")

    @property
    def hops(self) -> int | None:
        """Edges between the goal and the crossing, at the largest distance."""
        return self.steps

    def implied(self, batch: Batch, decisions: Tensor) -> Tensor | None:
        tokens, place = batch.tokens.cpu().numpy(), batch.facts["branch"].cpu().numpy()
        answers, rows = batch.answers.cpu().numpy().copy(), numpy.arange(len(batch))
        edge_from, edge_to = tokens[:, 0 : 3 * self.edges : 3], tokens[:, 1 : 3 * self.edges : 3]
        crossing, node = answers[rows, place - 1], decisions.cpu().numpy()
        possible = ((edge_from == crossing[:, None]) & (edge_to == node[:, None])).any(1)
        # Edge after edge behind the decision; a node without a way on, an end, stays where it is.
        for step in range(self.steps):
            at = 3 * step
            behind = at > place
            onward = edge_from == node[:, None]
            child = numpy.where(onward.any(1), edge_to[rows, onward.argmax(1)], node)
            answers[behind, at], answers[behind, at + 1] = node[behind], child[behind]
            node = numpy.where(behind, child, node)
        answers[rows, place] = decisions.cpu().numpy()
        answers[~possible] = NOTHING
        return torch.from_numpy(answers).to(batch.tokens.device)

    def wrong_turn(self, batch: Batch, rng: torch.Generator) -> WrongTurn | None:
        tokens, place = batch.tokens.cpu().numpy(), batch.facts["branch"].cpu().numpy()
        answers, rows = batch.answers.cpu().numpy(), numpy.arange(len(batch))
        edge_from, edge_to = tokens[:, 0 : 3 * self.edges : 3], tokens[:, 1 : 3 * self.edges : 3]
        leaves = edge_from == answers[rows, place - 1][:, None]
        other = leaves & (edge_to != answers[rows, place][:, None])
        wrong = torch.from_numpy(edge_to[rows, other.argmax(1)]).to(batch.tokens.device)
        implied = self.implied(batch, wrong)
        assert implied is not None
        return WrongTurn(torch.arange(len(batch), device=wrong.device), batch.facts["branch"], implied)

    def identity(self, batch: Batch) -> Fingerprints:
        tokens = batch.tokens.cpu().numpy()
        end = 3 * self.edges
        return fingerprint_set(tokens[:, 0:end:3] * self.nodes + tokens[:, 1:end:3])

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        distances = []
        for row in batch.tokens[:, : self.prompt_length].tolist():
            left = row[0 : 3 * self.edges : 3]
            path = self._path(*self._problem(row))
            distances.append(next(self.steps - place for place, node in enumerate(path) if left.count(node) == 2))
        return self._facts(torch.tensor(distances, dtype=torch.int64))

    def _facts(self, distance: Tensor) -> dict[str, Tensor]:
        return {"distance": distance, "branch": 3 * (self.steps - distance) + 1}


def pairs_along(path: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
    """[B, K] nodes -> [B, K - 1, 2] edges."""
    return numpy.stack([path[:, :-1], path[:, 1:]], axis=-1)


tasks.preset("minimal-planning-mini", "minimal-planning:steps=3,nodes=8")
