"""Minimal planning: two paths that cross at one node, and the one that leads to the goal.

From Ye et al. (2024, "Beyond Autoregression: Discrete Diffusion for Complex Reasoning and Planning", MGDM). Its
generator is not public and its text was not at hand: the task is made anew from what research/tasks.md section 10 says
of it, and what that leaves open is ours and said below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import fingerprints, minimal_planning_solve, reading
from foresee.tasks.base import Task, tasks
from foresee.tasks.path_star_graphs import distinct

FORM = "u,v/u,v/.../u,v|start,goal=u,v/v,w/..."


@tasks.register("minimal-planning")
@dataclass(frozen=True, kw_only=True)
class MinimalPlanning(Task):
    """Two directed paths of ``steps`` edges each that share one node, the same number of edges along on both; the
    answer is the edges of the one whose first and last node are asked for.

    The prompt is ``u,v/u,v/.../u,v|start,goal=``, edges of both paths in random order, and the answer its path as edges
    in order, ``u,v/v,w/...`` (3 * ``steps`` - 1 tokens). Tokens 0 .. nodes - 1 are the labels, drawn without
    replacement; ``/``, ``|`` and ``=`` follow. ``verify`` also accepts the path written exactly backwards, as the
    published scorer does.

    The one decision is which way to go on from the crossing. The *planning distance* is how many edges lead from there
    to the goal, drawn uniformly from 1 .. ``steps``: at 1 the goal itself is one of the two nodes to choose from, and
    at ``steps`` the crossing is the start, which is path-star with two arms. Two edges enter the crossing as well, so
    that writing the path backwards takes a decision too, unless the crossing is the start. Deviations, where the source
    says nothing: where query and ``|`` stand, that both paths are equally long, and that edges keep their direction.

    Facts: ``distance`` [B], the planning distance; ``branch`` [B], the place in the answer of the node after the
    crossing. ``plateau`` takes every distance for blind, also 1. Two problems are the same where their sets of edges
    are, whichever path is asked for. Raises ``RequestError`` where an option is out of range.
    """

    summary: ClassVar[str] = "which way on where two paths cross, at a known distance from the goal (Ye et al., MGDM)"

    steps: int = 5
    nodes: int = 20

    def __post_init__(self) -> None:
        reading.require_option("minimal-planning", "steps", self.steps, 1, 1000)
        reading.require_option("minimal-planning", "nodes", self.nodes, 2 * self.steps + 1, 60_000)

    @property
    def edges(self) -> int:
        """Edges of both paths."""
        return 2 * self.steps

    @cached_property
    def vocab(self) -> Vocabulary:
        """The labels, then the three delimiters."""
        return Vocabulary((*map(str, range(self.nodes)), "/", "|", "="))

    @property
    def chance(self) -> float:
        return 0.5

    @property
    def plateau(self) -> float:
        return math.log(2) / self.answer_length

    @property
    def prompt_length(self) -> int:
        return 3 * self.edges + 3

    @property
    def answer_length(self) -> int:
        return 3 * self.steps - 1

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
        tokens = self._rows(n)
        tokens[:, 0 : 3 * self.edges : 3] = numpy.take_along_axis(ends[..., 0], shuffled, axis=1)
        tokens[:, 1 : 3 * self.edges : 3] = numpy.take_along_axis(ends[..., 1], shuffled, axis=1)
        tokens[:, 3 * self.edges], tokens[:, 3 * self.edges + 1] = path[:, 0], path[:, -1]
        tokens[:, self.prompt_length :: 3], tokens[:, self.prompt_length + 1 :: 3] = path[:, :-1], path[:, 1:]
        facts = self._facts(torch.from_numpy(distance))
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.answer_length, facts)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The path's edges, found from the start. Raises ``RequestError`` on a prompt of another form or without a path
        of ``steps`` edges."""
        path = minimal_planning_solve.path_in(self, [int(token) for token in prompt])
        return self._answer(path)

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        right = self.solve(prompt)
        return [int(token) for token in answer] in (right, right[::-1])

    def identity(self, batch: Batch) -> Fingerprints:
        tokens = batch.tokens.cpu().numpy()
        end = 3 * self.edges
        return fingerprints.of_set(tokens[:, 0:end:3] * self.nodes + tokens[:, 1:end:3])

    def write_answer(self, answer: Sequence[int]) -> str:
        symbols = self.vocab.decode(answer)
        marks = {"/", "|", "="}
        return "".join(
            symbol if at == 0 or symbol in marks or symbols[at - 1] in marks else "," + symbol
            for at, symbol in enumerate(symbols)
        )

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        return self.write_answer(prompt) + self.write_answer(answer)

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        problem, written = reading.halves(line, FORM)
        graph, bar, query = problem.partition("|")
        if not bar:
            raise RequestError(f"there is no '|' after the edges; a line reads {FORM}")
        edges = self._read_edges(graph, "the graph")
        reading.require_count(len(edges), self.edges, "edges", "the graph")
        asked = self._read_edges(query, "the query")
        reading.require_count(len(asked), 1, "pairs of nodes", "the query")
        start, goal = asked[0]
        bar_token, equals = self.vocab.token("|"), self.vocab.token("=")
        prompt = [*self._joined(edges), bar_token, start, goal, equals]
        path = minimal_planning_solve.path_in(self, prompt)
        minimal_planning_solve.require_crossing(edges, path)
        answer = self._joined(self._read_edges(written, "the answer"))
        if answer and not self.verify(prompt, answer):
            right = self.write_answer(self._answer(path))
            raise RequestError(f"the answer is {reading.shown(written)}, but the path is {right}")
        return prompt, answer

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        end, steps = 3 * self.edges, self.steps
        rows = batch.tokens[:, : self.prompt_length].tolist()
        distances = []
        for row in rows:
            left = row[0:end:3]
            path = minimal_planning_solve.path_in(self, row)
            distances.append(next(steps - place for place, node in enumerate(path) if left.count(node) == 2))
        return self._facts(torch.tensor(distances, dtype=torch.int64))

    def _rows(self, n: int) -> NDArray[numpy.int64]:
        """[n, T] tokens with the delimiters in their places."""
        slash, bar, equals = (self.vocab.token(symbol) for symbol in "/|=")
        tokens = numpy.full((n, self.prompt_length + self.answer_length), slash, numpy.int64)
        tokens[:, 3 * self.edges - 1], tokens[:, 3 * self.edges + 2] = bar, equals
        return tokens

    def _answer(self, path: Sequence[int]) -> list[int]:
        """Tokens of the edges along a path."""
        return self._joined(pairwise(path))

    def _joined(self, edges: Iterable[tuple[int, int]]) -> list[int]:
        """Tokens of edges with ``/`` between them."""
        slash = self.vocab.token("/")
        return [token for edge in edges for token in (*edge, slash)][:-1]

    def _read_edges(self, text: str, where: str) -> list[tuple[int, int]]:
        edges = []
        for part in text.split("/") if text else []:
            pair = reading.whole_numbers(part, 0, self.nodes - 1, where)
            if len(pair) != 2:
                raise RequestError(f"{reading.shown(part)} in {where} is not two labels joined by a comma, as in 3,12")
            edges.append((pair[0], pair[1]))
        return edges

    def _facts(self, distance: Tensor) -> dict[str, Tensor]:
        return {"distance": distance, "branch": 3 * (self.steps - distance) + 1}


def pairs_along(path: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
    """[B, K] nodes -> [B, K - 1, 2] edges."""
    return numpy.stack([path[:, :-1], path[:, 1:]], axis=-1)


tasks.preset("minimal-planning-mini", "minimal-planning:steps=3,nodes=8")
