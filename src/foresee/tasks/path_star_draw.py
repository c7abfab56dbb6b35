"""Drawing path-star examples by array operations: graphs as numbered nodes, the columns of a prompt, and rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

from foresee.core.fingerprints import Fingerprints, mix

Goals = Literal["one", "all"]
EdgeOrder = Literal["shuffled", "arm-wise", "causal-wise"]
Query = Literal["last", "first"]
Generalised = Literal["none", "arm", "path"]
Sizes = Literal["fixed", "mixed"]
Tokens = NDArray[numpy.int64]


def distinct(rng: numpy.random.Generator, count: int, pool: int, columns: int) -> NDArray[Any]:
    """[count, columns] unsigned integers: each column is ``count`` different numbers below ``pool``, every ordered
    choice equally likely.

    The Fisher-Yates shuffle, without the array that it shuffles: step k swaps places k and j[k] >= k, so the k-th
    choice is j[k] itself, unless an earlier step i had j[i] = j[k], which put there what stood at i. Looking the steps
    up backwards resolves every column at once.
    """
    dtype = numpy.uint16 if pool <= 2**16 else numpy.uint32
    chosen = numpy.empty((count, columns), dtype)
    for step in range(count):
        chosen[step] = rng.integers(step, pool, size=columns, dtype=dtype)
    for step in range(count - 2, -1, -1):
        later = chosen[step + 1 :]
        numpy.copyto(later, dtype(step), where=later == chosen[step])
    return chosen


@dataclass(frozen=True)
class Shape:
    """``degree`` arms that leave a centre, every one with ``length`` nodes from the centre to an end.

    Each node at a distance in ``splits`` from the centre has two children, so that an arm is a tree. Nodes are numbered
    from the centre, 0, in preorder, and edge e is the one that enters node e + 1.
    """

    degree: int
    length: int
    splits: tuple[int, ...] = ()

    def children(self, distance: int) -> int:
        """How many children a node at this distance from the centre has."""
        if distance in (0, self.length - 1):
            return 0 if distance else self.degree
        return 2 if distance in self.splits else 1

    @cached_property
    def sizes(self) -> list[int]:
        """[length] nodes of the tree below a node, itself included, by its distance from the centre."""
        sizes = [1]
        for distance in range(self.length - 2, -1, -1):
            sizes.append(1 + self.children(distance) * sizes[-1])
        return sizes[::-1]

    @property
    def nodes(self) -> int:
        """Nodes of the graph, the centre included."""
        return self.sizes[0]

    @property
    def edges(self) -> int:
        """Edges of the graph; 3 * (edges + 1) tokens make a prompt."""
        return self.nodes - 1

    @property
    def ends(self) -> int:
        """Nodes without children: one an arm, and twice as many for each distance at which arms split."""
        return int(self.degree * 2 ** len(self.splits))

    @cached_property
    def paths(self) -> NDArray[numpy.int64]:
        """[ends, length] the nodes from the centre to each end: the arms, where none splits."""
        levels = [numpy.zeros(1, numpy.int64)]
        for distance in range(self.length - 1):
            steps = 1 + numpy.arange(self.children(distance)) * self.sizes[distance + 1]
            levels.append((levels[-1][:, None] + steps).reshape(-1))
        return numpy.stack([numpy.repeat(level, self.ends // len(level)) for level in levels], axis=1)

    @cached_property
    def parents(self) -> NDArray[numpy.int64]:
        """[edges] the node that each edge leaves."""
        parents = numpy.empty(self.edges, numpy.int64)
        parents[self.paths[:, 1:] - 1] = self.paths[:, :-1]
        return parents

    def paths_in(self, edge_from: Tokens, edge_to: Tokens, start: Tokens) -> Tokens:
        """[B, ends, length] labels from ``start`` [B] to each end, found in edges [B, edges] of this shape; paths in
        the order in which the edges name the nodes on them."""
        level, columns = start[:, None], []
        for distance in range(self.length):
            columns.append(numpy.repeat(level, self.ends // level.shape[1], axis=1))
            if fan := self.children(distance):
                below = [edge_to[edge_from == node[:, None]].reshape(-1, fan) for node in level.T]
                level = numpy.concatenate(below, axis=1)
        return numpy.stack(columns, axis=2)


@dataclass(frozen=True)
class PromptForm:
    """Where a prompt holds its edges and its query: it is triples of two labels and a delimiter.

    ``u,v|u,v|.../start,goal=``, or ``start,goal/u,v|u,v|...=`` where the query comes first. The delimiters ``|``,
    ``=``, ``/`` are the tokens ``nodes``, ``nodes + 1`` and ``nodes + 2``.
    """

    query: Query
    nodes: int

    @staticmethod
    def length(edges: int) -> int:
        """Tokens of a prompt with this many edges."""
        return 3 * edges + 3

    @staticmethod
    def edge_counts(lengths: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
        """Edges of prompts of this many tokens."""
        return lengths // 3 - 1

    def shared_columns(self, edges: int) -> int:
        """First columns that prompts on one graph have in common whatever the goal."""
        return 1 if self.query == "first" else 3 * edges + 1

    def parts(self, tokens: Tokens, edges: int) -> tuple[Tokens, Tokens]:
        """Views of [B, T] tokens: the edges [B, edges, 3] and the query [B, 3], start, goal and a delimiter."""
        triples = tokens[:, : self.length(edges)].reshape(len(tokens), edges + 1, 3)
        return (triples[:, 1:], triples[:, 0]) if self.query == "first" else (triples[:, :-1], triples[:, -1])

    def edges_in(self, tokens: Tokens, edges: int) -> tuple[Tokens, Tokens]:
        """Views [B, edges] of [B, T] tokens: the nodes that edges leave, and those that they enter."""
        written, _ = self.parts(tokens, edges)
        return written[..., 0], written[..., 1]

    def graphs_in(self, tokens: Tokens, lengths: NDArray[numpy.int64]) -> Fingerprints:
        """[B] fingerprints of the set of directed edges, whatever their order, the query and the goal, of [B, T] tokens
        whose prompts have these ``lengths`` [B]."""
        counts = self.edge_counts(lengths)
        widest = int(counts.max(initial=0))
        edge_from, edge_to = self.edges_in(tokens, widest)
        words = mix((edge_from * self.nodes + edge_to).astype(numpy.uint64))
        if (counts < widest).any():
            words[numpy.arange(widest) >= counts[:, None]] = 0
        # Addition is commutative, which is what makes the fingerprint blind to the order of the edges.
        return numpy.asarray(words.sum(axis=1, dtype=numpy.uint64))

    def query_in(self, tokens: Tokens, edges: int) -> tuple[Tokens, Tokens]:
        """Views [B] of [B, T] tokens: start and goal."""
        _, query = self.parts(tokens, edges)
        return query[:, 0], query[:, 1]

    def write(self, tokens: Tokens, ends: tuple[NDArray[Any], ...], start: NDArray[Any], goal: NDArray[Any]) -> None:
        """Fills the prompt columns of [B, T] tokens from edges (both ends [B, edges]) and query [B]."""
        bar, equals, slash = range(self.nodes, self.nodes + 3)
        edges, query = self.parts(tokens, ends[0].shape[1])
        edges[..., 0], edges[..., 1], edges[..., 2] = *ends, bar
        query[:, 0], query[:, 1] = start, goal
        first, last = (query, edges[:, -1]) if self.query == "first" else (edges[:, -1], query)
        first[:, 2], last[:, 2] = slash, equals


@dataclass(frozen=True)
class Drawn:
    """Examples, the rows of one graph side by side; where lengths differ, tokens are padded with 0 and arms with -1."""

    tokens: Tokens  # [B, T] prompt, answer, padding
    prompt_len: NDArray[numpy.int64]  # [B]
    answer_len: NDArray[numpy.int64]  # [B]
    arms: Tokens  # [B, ends, length] labels from the centre to each end, in an order that says nothing about the goal
    goal_arm: NDArray[numpy.int64]  # [B] which of ``arms`` the answer is, or begins


@dataclass(frozen=True)
class Sampler:
    """How graphs become examples; the options are those of ``PathStar``."""

    form: PromptForm
    order: EdgeOrder
    goals: Goals
    generalised: Generalised

    def draw(self, shape: Shape, graphs: int, rng: numpy.random.Generator) -> Drawn:
        """``graphs`` graphs of one shape; each gives one row, or one for each of its ends."""
        labels = distinct(rng, shape.nodes, self.form.nodes, graphs)
        order = edge_order(rng, shape, self.order, graphs)
        if self.goals == "all":
            goal_arm = distinct(rng, shape.ends, shape.ends, graphs).T.reshape(-1).astype(numpy.int64)
        else:
            goal_arm = rng.integers(0, shape.ends, size=graphs)
        rows = len(goal_arm)

        edge_from = numpy.take_along_axis(labels, shape.parents[order], 0).T
        edge_to = numpy.take_along_axis(labels[1:], order, 0).T
        arms = labels.T[:, shape.paths].astype(numpy.int64)
        if rows > graphs:
            graph_of = numpy.arange(rows) // shape.ends
            edge_from, edge_to, arms = edge_from[graph_of], edge_to[graph_of], arms[graph_of]
        answers = arms[numpy.arange(rows), goal_arm]

        prompt_len = self.form.length(shape.edges)
        tokens = numpy.empty((rows, prompt_len + shape.length), numpy.int64)
        tokens[:, prompt_len:] = answers
        goal, answer_len = answers[:, -1], numpy.full(rows, shape.length)
        if self.generalised != "none":
            place = rng.integers(1, shape.length, size=rows)
            goal = answers[numpy.arange(rows), place]
            if self.generalised == "path":
                answer_len = place + 1
                tokens[:, prompt_len:][numpy.arange(shape.length) >= answer_len[:, None]] = 0
        self.form.write(tokens, (edge_from, edge_to), answers[:, 0], goal)
        return Drawn(tokens, numpy.full(rows, prompt_len), answer_len, arms, goal_arm)

    def draw_mixed(self, shapes: list[Shape], graphs: int, rng: numpy.random.Generator) -> Drawn:
        """``graphs`` graphs, the shape of each drawn uniformly; all have as many ends, and the last is the largest."""
        largest = shapes[-1]
        rows_each = largest.ends if self.goals == "all" else 1
        shape_of = numpy.repeat(rng.integers(0, len(shapes), size=graphs), rows_each)
        tokens = numpy.zeros((len(shape_of), self.form.length(largest.edges) + largest.length), numpy.int64)
        arms = numpy.full((len(shape_of), largest.ends, largest.length), -1, numpy.int64)
        prompt_len, answer_len, goal_arm = numpy.empty((3, len(shape_of)), numpy.int64)
        for index, shape in enumerate(shapes):
            here = numpy.flatnonzero(shape_of == index)
            part = self.draw(shape, len(here) // rows_each, rng)
            tokens[here, : part.tokens.shape[1]] = part.tokens
            arms[here, :, : shape.length] = part.arms
            prompt_len[here], answer_len[here], goal_arm[here] = part.prompt_len, part.answer_len, part.goal_arm
        return Drawn(tokens, prompt_len, answer_len, arms, goal_arm)


def edge_order(rng: numpy.random.Generator, shape: Shape, order: EdgeOrder, graphs: int) -> NDArray[Any]:
    """[edges, graphs], or [edges, 1] where all graphs have the same: which edge is written at each place.

    ``shuffled`` and ``causal-wise`` (arms interleaved, each outwards) make all such orders equally likely. ``arm-wise``
    draws none, since labels and the goal's arm are random. ``shape`` has no splits unless the order is ``shuffled``.
    """
    in_order = numpy.arange(shape.edges)[:, None]
    if order == "arm-wise":
        return in_order
    drawn = distinct(rng, shape.edges, shape.edges, graphs)
    if order == "shuffled":
        return drawn
    # The places that a shuffled order gives to an arm take that arm's edges outwards.
    places = numpy.argsort(drawn // (shape.length - 1), axis=0, kind="stable")
    numpy.put_along_axis(drawn, places, in_order.astype(drawn.dtype), 0)
    return drawn
