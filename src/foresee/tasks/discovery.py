"""Discovery: write children of one parent, or a triangle of a graph that is known by heart, in a combination that was
never shown.

Nagarajan et al. 2025 ("Roll the dice", arXiv 2504.15266); docs/tasks.md says where this deviates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from string import ascii_lowercase
from typing import Annotated, ClassVar

import numpy
import torch
from numpy.typing import NDArray

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.base import Bounds, Labels, Task, label_vocabulary, require_option, tasks
from foresee.tasks.text import TextForm, pairs_in, require_prompt, shown


@tasks.register("sibling-discovery")
@dataclass(frozen=True, kw_only=True)
class SiblingDiscovery(Task):
    """``parents`` parents a0, a1, ..., each with ``siblings`` children of each of ``kinds`` kinds: the first ones of
    the first kind, b0, b1, ..., belong to a0, and so on; those of the second kind are c0, c1, ...

    The prompt is ``=`` and an answer one child of each kind, in the order of kinds, and their parent: ``=b17,c3,a2``.
    Any parents * siblings ** kinds of them are right. Identity is that of the answer.

    ``chance`` is of a solver that draws a parent for each child apart: parents ** (1 - kinds).
    """

    summary: ClassVar[str] = "write children of one parent and the parent last, in a new combination (Roll the dice)"
    text = TextForm("=b0,c0,a0")
    open_ended = True

    parents: Annotated[int, Bounds(1)]
    siblings: Annotated[int, Bounds(1)]
    kinds: Annotated[int, Bounds(1, len(ascii_lowercase) - 1)] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        # Children of the first kind, of the second, ..., then the parents, then ``=``.
        kinds, children = ascii_lowercase[1 : self.kinds + 1], range(self.parents * self.siblings)
        named = (f"{letter}{child}" for letter, child in product(kinds, children))
        vocab = Vocabulary((*named, *(f"a{parent}" for parent in range(self.parents)), "="))
        chance = float(self.parents) ** (1 - self.kinds)
        self.declare(vocab=vocab, chance=chance, prompt_length=1, answer_length=self.kinds + 1)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        parent = rng.integers(self.parents, size=n)
        tokens = numpy.empty((n, self.kinds + 2), numpy.int64)
        tokens[:, 0] = self.vocab.token("=")
        tokens[:, -1] = self.kinds * self.parents * self.siblings + parent
        kind = numpy.arange(self.kinds)
        children = rng.integers(self.siblings, size=(n, self.kinds))
        tokens[:, 1:-1] = (kind * self.parents + parent[:, None]) * self.siblings + children
        return Batch.of(torch.from_numpy(tokens), 1, self.kinds + 1)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The first child of each kind of the first parent, which are as right as any."""
        require_prompt(prompt, self.vocab.token("="))
        return self.vocab.encode([*(f"{letter}0" for letter in ascii_lowercase[1 : self.kinds + 1]), "a0"])

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        require_prompt(prompt, self.vocab.token("="))
        symbols = self.vocab.decode(answer)
        if len(symbols) != self.kinds + 1:
            return f"the answer has {len(symbols)} symbols, but must have {self.kinds + 1}"
        *children, parent = symbols
        if parent[0] != "a":
            return f"the answer ends with {parent}, but must end with a parent, as in a0"
        for letter, child in zip(ascii_lowercase[1:], children, strict=False):
            if child[0] != letter:
                return f"{child} stands where a child of kind {letter} must, as in {letter}0"
            owner = int(child[1:]) // self.siblings
            if owner != int(parent[1:]):
                return f"{child} is a child of a{owner}, not of {parent}"
        return None


tasks.preset("sibling-mini", "sibling-discovery:parents=5,siblings=100")
# Released data: 5 parents, 500 siblings; 50,000 training triples (--data fixed:50000).
tasks.preset("sibling-published", "sibling-discovery:parents=5,siblings=500")


SLACK = 1.2
"""How far above ``degree`` a vertex's number of neighbours may be for it to be drawn as another's."""

TRIANGLE, FACT = "tri:", "edge:"


@tasks.register("triangle-discovery", later=("labels",))
@dataclass(frozen=True, kw_only=True)
class TriangleDiscovery(Task):
    """A graph on ``nodes`` vertices, numbered by ``graph``. ``tri:`` is answered by the edges of a triangle in cyclic
    order, ``tri:3,1|1,7|7,3``, and ``edge:`` by an edge both ways, ``edge:3,1|1,3``; a share ``facts`` of the rows,
    before those that are held out leave, are of the second kind, all of them training rows. Identity is the set of
    nodes. ``chance`` is of a solver that knows the edges and walks along two of them blindly: the share of pairs of a
    vertex's neighbours that are joined."""

    summary: ClassVar[str] = "write a triangle of a memorised graph that was never shown (Roll the dice)"
    open_ended = True
    prompt_length = 1
    answer_length = 8
    text = TextForm(
        "tri:a,b|b,c|c,a or edge:a,b|b,a",
        marks=(TRIANGLE, FACT), answer_marks=("|",), ends=(TRIANGLE, FACT), noun="label", item="edge", between="|",
    )  # fmt: skip

    nodes: Annotated[int, Bounds(4)] = 999
    degree: Annotated[int, Bounds(2)] = 3
    triangles: Annotated[int, Bounds(1)] = 6
    facts: Annotated[float, Bounds(0, below=1)] = 2 / 3
    graph: Annotated[int, Bounds(0)] = 0
    labels: Labels = "numbers"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self, "nodes", self.degree + 1)

    @cached_property
    def neighbours(self) -> list[set[int]]:
        """The graph: each vertex's neighbours.

        After a description of the released notebook, which was not seen: every vertex is topped up to
        ``degree`` neighbours, drawn among vertices that are not its neighbours yet and have at most 1.2 * ``degree``.
        Then, vertex by vertex, random pairs of neighbours are joined until the vertex has counted ``triangles`` of
        them, a pair that was joined already counted as well, for all three. So vertices end with more of both.
        """
        rng = seeds.stream("triangle-discovery", self.nodes, self.degree, self.triangles, self.graph)
        joined: list[set[int]] = [set() for _ in range(self.nodes)]

        def join(a: int, b: int) -> None:
            joined[a].add(b)
            joined[b].add(a)

        for vertex in range(self.nodes):
            while len(joined[vertex]) < self.degree:
                free = [
                    other
                    for other in range(self.nodes)
                    if other != vertex and other not in joined[vertex] and len(joined[other]) <= SLACK * self.degree
                ]
                if not free:
                    break
                join(vertex, free[int(rng.integers(len(free)))])
        counted = [0] * self.nodes
        for vertex in range(self.nodes):
            while counted[vertex] < self.triangles and len(joined[vertex]) > 1:
                a, b = (int(other) for other in rng.choice(sorted(joined[vertex]), 2, replace=False))
                join(a, b)
                for corner in (vertex, a, b):
                    counted[corner] += 1
        return joined

    @cached_property
    def edge_table(self) -> NDArray[numpy.int64]:
        """[E, 2]: every edge once."""
        return numpy.array([(a, b) for a, others in enumerate(self.neighbours) for b in sorted(others) if a < b])

    @cached_property
    def triangle_table(self) -> NDArray[numpy.int64]:
        """[number of triangles, 3]: every triangle once, corners in ascending order."""
        near = self.neighbours
        found = [(a, b, c) for a, b in self.edge_table.tolist() for c in sorted(near[a] & near[b]) if c > b]
        return numpy.array(found)

    @cached_property
    def vocab(self) -> Vocabulary:
        """The vertices, then ``|``, ``tri:`` and ``edge:``."""
        return label_vocabulary(self.labels, self.nodes, "|", TRIANGLE, FACT)

    @cached_property
    def chance(self) -> float:
        pairs = sum(len(others) * (len(others) - 1) // 2 for others in self.neighbours)
        return 3 * len(self.triangle_table) / pairs

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        fact = rng.random(n) < self.facts
        corners = self.triangle_table[rng.integers(len(self.triangle_table), size=n)]
        corners = rng.permuted(corners, axis=1)
        ends = rng.permuted(self.edge_table[rng.integers(len(self.edge_table), size=n)], axis=1)
        bar, triangle, edge = self.vocab.encode(("|", TRIANGLE, FACT))
        tokens = numpy.full((n, 9), bar, numpy.int64)
        tokens[:, 0] = numpy.where(fact, edge, triangle)
        tokens[:, [1, 2, 4, 5, 7, 8]] = corners[:, [0, 1, 1, 2, 2, 0]]
        tokens[fact, 1:6] = bar
        tokens[numpy.flatnonzero(fact)[:, None], [1, 2, 4, 5]] = ends[fact][:, [0, 1, 1, 0]]
        tokens[fact, 6:] = 0
        lengths = torch.from_numpy(numpy.where(fact, 5, 8))
        return Batch.of(torch.from_numpy(tokens), torch.ones(n, dtype=torch.int64), lengths)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The first triangle or edge, which is as right as any."""
        near = self.neighbours
        a = next(vertex for vertex, others in enumerate(near) for b in others if others & near[b])
        b = min(b for b in near[a] if near[a] & near[b])
        corners = [a, b] if self._asks_for_edge(prompt) else [a, b, min(near[a] & near[b])]
        bar = self.vocab.token("|")
        return [token for edge in zip(corners, _turned(corners), strict=True) for token in (*edge, bar)][:-1]

    def _asks_for_edge(self, prompt: Sequence[int]) -> bool:
        if len(prompt) != 1 or prompt[0] not in self.vocab.encode((TRIANGLE, FACT)):
            raise RequestError(f"triangle-discovery: the prompt must be {TRIANGLE} or {FACT} alone")
        return bool(prompt[0] == self.vocab.token(FACT))

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        return 5 if self._asks_for_edge(prompt) else 8

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        kind, wanted = (FACT, 2) if self._asks_for_edge(prompt) else (TRIANGLE, 3)
        try:
            edges = pairs_in([int(token) for token in answer], self.vocab.token("|"), self.nodes, self.vocab)
        except RequestError as error:
            return str(error)
        corners = [a for a, _ in edges]
        if [b for _, b in edges] != _turned(corners):
            text = shown(self.write_answer(answer))
            return f"{text} does not return to where it began, each edge from the last one's end"
        if len(edges) != wanted:
            return f"there are {len(edges)} edges, but {kind} is answered by {wanted}"
        for a, b in edges:
            if b not in self.neighbours[a]:
                return f"{a},{b} is not an edge of the graph"
        return None

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: a fingerprint of the triangle's or the edge's set of nodes."""
        tokens = batch.tokens.cpu().numpy()
        corners = numpy.sort(tokens[:, [1, 2, 5]], axis=1)
        fact = tokens[:, 0] == self.vocab.token(FACT)
        corners[fact] = numpy.pad(numpy.sort(tokens[fact, 1:3], axis=1), ((0, 0), (0, 1)), constant_values=self.nodes)
        return fingerprint(corners)

    def held_out(self, batch: Batch) -> NDArray[numpy.bool_]:
        """[B]: one triangle in eight; facts are all trained on."""
        asked = batch.tokens[:, 0].cpu().numpy() == self.vocab.token(TRIANGLE)
        return numpy.asarray(asked & super().held_out(batch))


def _turned(corners: list[int]) -> list[int]:
    """The corners from the second on, and the first."""
    return corners[1:] + corners[:1]


tasks.preset("triangle-mini", "triangle-discovery:nodes=60,triangles=6")
# 15,000 training lines (--data fixed:15000) and 1,024 generations.
tasks.preset("triangle-published", "triangle-discovery:nodes=999,degree=3,triangles=6")
