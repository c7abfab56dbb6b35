"""Path-star graphs G(d, l): arms that leave a centre, and the path from the centre to the end of one of them.

Source: Bachmann & Nagarajan (2024); the text form is that of the data files published with it. ``length`` counts the
nodes on an arm, the centre included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.batch import Batch
from foresee.errors import RequestError
from foresee.mixing import Words, mix
from foresee.tasks import path_star_text
from foresee.tasks.base import Task, tasks
from foresee.vocabulary import Vocabulary


def distinct(rng: numpy.random.Generator, count: int, pool: int, columns: int) -> NDArray[Any]:
    """[count, columns] unsigned integers: each column is ``count`` different numbers below ``pool``, every ordered
    choice equally likely.

    The Fisher-Yates shuffle, without the array that it shuffles. Step k swaps places k and j[k] >= k, so the k-th
    choice is what stands at j[k]: j[k] itself, unless an earlier step i had j[i] = j[k], which put there what stood at
    i. Looking the steps up backwards resolves every column at once.
    """
    dtype = numpy.uint16 if pool <= 2**16 else numpy.uint32
    chosen = numpy.empty((count, columns), dtype)
    for step in range(count):
        chosen[step] = rng.integers(step, pool, size=columns, dtype=dtype)
    for step in range(count - 2, -1, -1):
        later = chosen[step + 1 :]
        numpy.copyto(later, dtype(step), where=later == chosen[step])
    return chosen


@tasks.register("path-star")
@dataclass(frozen=True, kw_only=True)
class PathStar(Task):
    """G(degree, length) with node labels drawn without replacement from ``nodes`` labels, and edges in random order.

    The prompt is ``u,v|u,v|.../start,goal=`` (3 * degree * (length - 1) + 3 tokens; the commas of the text form are not
    tokens) and the answer the ``length`` nodes from centre to goal. Tokens 0 .. nodes - 1 are the labels; ``|``, ``=``,
    ``/`` and ``$`` follow.

    ``goals``: "one" draws a new graph for each row; "all" makes rows come in groups of ``degree`` that hold the same
    graph, edges in the same order, with each arm's end as the goal once, in random order.

    Facts: ``arms`` [B, degree, length], every arm's tokens from the centre, in an order that says nothing about the
    goal; ``goal_arm`` [B], which of them the answer is; ``branch`` [B], where in the answer the decision lies (always
    at 1).

    Raises ``RequestError`` for a graph that cannot be: degree below 1, length below 2, too few labels.
    """

    summary: ClassVar[str] = (
        "the path from the centre of a star of arms to the end of one of them (Bachmann & Nagarajan)"
    )

    degree: int
    length: int
    nodes: int
    goals: Literal["one", "all"] = "one"

    def __post_init__(self) -> None:
        if self.degree < 1:
            raise RequestError(f"path-star: degree={self.degree}, but a star needs at least 1 arm")
        if self.length < 2:
            raise RequestError(f"path-star: length={self.length}, but an arm has at least 2 nodes, the centre included")
        needed = 1 + self.edges
        if self.nodes < needed:
            raise RequestError(
                f"path-star: nodes={self.nodes}, but degree={self.degree},length={self.length} needs at least {needed} "
                "node labels, 1 + degree * (length - 1)"
            )
        if self.goals not in ("one", "all"):
            raise RequestError(f"path-star: goals={self.goals!r}, but it must be one of one, all")

    @property
    def edges(self) -> int:
        """Edges of the graph: degree * (length - 1)."""
        return self.degree * (self.length - 1)

    @cached_property
    def vocab(self) -> Vocabulary:
        """The labels, then the four delimiters."""
        return Vocabulary((*map(str, range(self.nodes)), "|", "=", "/", "$"))

    @property
    def chance(self) -> float:
        return 1 / self.degree

    @property
    def plateau(self) -> float:
        return math.log(self.degree) / self.length

    @property
    def prompt_length(self) -> int:
        return 3 * self.edges + 3

    @property
    def answer_length(self) -> int:
        return self.length

    @property
    def group(self) -> int:
        return self.degree if self.goals == "all" else 1

    @property
    def shared_prefix(self) -> int:
        # All edges with their separators, and the centre; the goal comes next.
        return 3 * self.edges + 1 if self.goals == "all" else 0

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        graphs = -(-n // self.group)
        labels = distinct(rng, 1 + self.edges, self.nodes, graphs)
        order = distinct(rng, self.edges, self.edges, graphs)
        if self.goals == "all":
            goal_arm = distinct(rng, self.degree, self.degree, graphs).T.reshape(-1)[:n].astype(numpy.int64)
        else:
            goal_arm = rng.integers(0, self.degree, size=n)

        # Node 0 is the centre and arm a holds nodes 1 + a * (length - 1) onwards; edge e enters node e + 1.
        node = numpy.arange(self.edges).reshape(self.degree, self.length - 1)
        parents = numpy.where(node % (self.length - 1) == 0, 0, node).reshape(-1)
        on_arm = numpy.concatenate([numpy.zeros((self.degree, 1), numpy.int64), node + 1], axis=1)

        bar, equals, slash = range(self.nodes, self.nodes + 3)
        tokens = numpy.empty((n, self.prompt_length + self.length), numpy.int64)
        graph_of = numpy.arange(n) // self.group
        edge_from = numpy.take_along_axis(labels, parents[order], 0).T
        edge_to = numpy.take_along_axis(labels[1:], order, 0).T
        arms = labels.T[:, on_arm].astype(numpy.int64)
        if self.group > 1:
            edge_from, edge_to, arms = edge_from[graph_of], edge_to[graph_of], arms[graph_of]
        end = 3 * self.edges
        tokens[:, 0:end:3] = edge_from
        tokens[:, 1:end:3] = edge_to
        tokens[:, 2:end:3] = bar
        answers = arms[numpy.arange(n), goal_arm]
        tokens[:, end - 1] = slash
        tokens[:, end] = answers[:, 0]
        tokens[:, end + 1] = answers[:, -1]
        tokens[:, end + 2] = equals
        tokens[:, end + 3 :] = answers
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.length, self._facts(arms, goal_arm))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The path, found by walking back from the goal. Raises ``RequestError`` on a prompt that holds none."""
        tokens = [int(token) for token in prompt]
        bar, equals, slash = (self.vocab.token(symbol) for symbol in "|=/")
        if len(tokens) != self.prompt_length:
            raise RequestError(f"path-star: the prompt has {len(tokens)} tokens, but must have {self.prompt_length}")
        delimiters = [bar] * (self.edges - 1) + [slash, equals]
        if tokens[2::3] != delimiters:
            raise RequestError("path-star: the prompt's delimiters are not those of u,v|u,v|.../start,goal=")
        pairs = list(zip(tokens[::3], tokens[1::3], strict=True))
        for label in (label for pair in pairs for label in pair):
            if not 0 <= label < self.nodes:
                raise RequestError(
                    f"path-star: token {label} stands where a node label from 0 to {self.nodes - 1} must"
                )
        start, goal = pairs.pop()
        parent = {child: node for node, child in pairs}
        path = [goal]
        while path[-1] != start and len(path) < self.length and path[-1] in parent:
            path.append(parent[path[-1]])
        if path[-1] != start or len(path) != self.length:
            raise RequestError(f"path-star: no path of {self.length} nodes leads from {start} to {goal} in the prompt")
        return path[::-1]

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        return [int(token) for token in answer] == self.solve(prompt)

    def identity(self, batch: Batch) -> Words:
        """[B] uint64: a fingerprint of the set of directed edges, whatever their order and the goal."""
        end = 3 * self.edges
        prompts = batch.tokens[:, :end].cpu().numpy()
        codes = prompts[:, 0:end:3] * self.nodes + prompts[:, 1:end:3]
        # Addition is commutative, which is what makes the fingerprint blind to the order of the edges.
        return numpy.asarray(mix(codes.astype(numpy.uint64)).sum(axis=1, dtype=numpy.uint64))

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        return path_star_text.write(self.vocab.decode(prompt), self.vocab.decode(answer))

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        parsed = path_star_text.read(line, self.nodes)
        path_star_text.check(parsed, self.degree, self.length)
        bar, equals, slash = range(self.nodes, self.nodes + 3)
        prompt: list[int] = []
        for node, child in parsed.edges:
            prompt += (node, child, bar)
        prompt[-1] = slash
        prompt += (parsed.start, parsed.goal, equals)
        return prompt, parsed.answer

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        end = 3 * self.edges
        prompts = batch.tokens[:, : self.prompt_length].cpu().numpy()
        edge_from, edge_to = prompts[:, 0:end:3], prompts[:, 1:end:3]
        start, goal = prompts[:, end], prompts[:, end + 1]
        rows = numpy.arange(len(prompts))
        arms = numpy.empty((len(prompts), self.degree, self.length), numpy.int64)
        arms[:, :, 0] = start[:, None]
        arms[:, :, 1] = edge_to[edge_from == start[:, None]].reshape(-1, self.degree)
        for arm in range(self.degree):
            for place in range(2, self.length):
                edge = (edge_from == arms[:, arm, place - 1, None]).argmax(axis=1)
                arms[:, arm, place] = edge_to[rows, edge]
        return self._facts(arms, (arms[:, :, -1] == goal[:, None]).argmax(axis=1))

    def _facts(self, arms: NDArray[numpy.int64], goal_arm: NDArray[Any]) -> dict[str, Tensor]:
        return {
            "arms": torch.from_numpy(arms),
            "goal_arm": torch.from_numpy(goal_arm),
            "branch": torch.ones(len(arms), dtype=torch.int64),
        }
