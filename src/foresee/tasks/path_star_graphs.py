"""Star graphs as numbered nodes, and the orders in which their edges are written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

EdgeOrder = Literal["shuffled", "arm-wise", "causal-wise"]


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


@dataclass(frozen=True)
class Shape:
    """``degree`` arms that leave a centre, every one with ``length`` nodes from the centre to an end.

    Each node at a distance in ``splits`` from the centre has two children, so that an arm is a tree; every other node
    of an arm has one. Nodes are numbered from the centre, 0, in preorder: an arm's nodes follow each other, and edge e
    is the one that enters node e + 1.
    """

    degree: int
    length: int
    splits: tuple[int, ...] = ()

    def children(self, distance: int) -> int:
        """How many children a node at this distance from the centre has."""
        if distance == 0:
            return self.degree
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
    def levels(self) -> list[NDArray[numpy.int64]]:
        """[length] of the nodes at each distance from the centre, siblings side by side."""
        levels = [numpy.zeros(1, numpy.int64)]
        for distance in range(self.length - 1):
            steps = 1 + numpy.arange(self.children(distance)) * self.sizes[distance + 1]
            levels.append((levels[-1][:, None] + steps).reshape(-1))
        return levels

    @cached_property
    def parents(self) -> NDArray[numpy.int64]:
        """[edges] the node that each edge leaves."""
        parents = numpy.empty(self.edges, numpy.int64)
        for distance, (level, below) in enumerate(zip(self.levels, self.levels[1:], strict=False)):
            parents[below - 1] = numpy.repeat(level, self.children(distance))
        return parents

    @cached_property
    def paths(self) -> NDArray[numpy.int64]:
        """[ends, length] the nodes from the centre to each end: the arms, where none splits."""
        return numpy.stack([numpy.repeat(level, self.ends // len(level)) for level in self.levels], axis=1)

    def paths_in(
        self, edge_from: NDArray[numpy.int64], edge_to: NDArray[numpy.int64], start: NDArray[numpy.int64]
    ) -> NDArray[numpy.int64]:
        """[B, ends, length] labels from ``start`` [B] to each end, found in edges [B, edges] of this shape; paths in
        the order in which the edges name the nodes on them."""
        level = start[:, None]
        columns = []
        for distance in range(self.length):
            columns.append(numpy.repeat(level, self.ends // level.shape[1], axis=1))
            if distance < self.length - 1:
                fan = self.children(distance)
                below = [edge_to[edge_from == node[:, None]].reshape(-1, fan) for node in level.T]
                level = numpy.concatenate(below, axis=1)
        return numpy.stack(columns, axis=2)


def edge_order(rng: numpy.random.Generator, shape: Shape, order: EdgeOrder, graphs: int) -> NDArray[Any]:
    """[edges, graphs], or [edges, 1] where all graphs have the same: which edge is written at each place.

    * ``shuffled``: any order, all equally likely.
    * ``arm-wise``: arm after arm, each from the centre outwards. No order of the arms is drawn: labels are random, so
      that arms are alike but for the goal, and the goal's arm is drawn.
    * ``causal-wise``: the arms interleaved, all interleavings equally likely, each arm from the centre outwards.

    ``shape`` has no splits unless the order is ``shuffled``.
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
