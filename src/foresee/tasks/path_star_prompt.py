"""Where a path-star prompt holds its edges and its query, as columns of token arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

Query = Literal["last", "first"]
Tokens = NDArray[numpy.int64]


@dataclass(frozen=True)
class PromptForm:
    """``u,v|u,v|.../start,goal=``, or ``start,goal/u,v|u,v|...=`` where the query comes first. No comma is a token.

    A prompt is a row of triples in both: an edge or the query, and one delimiter. The delimiters ``|``, ``=``, ``/``
    are the tokens ``nodes``, ``nodes + 1`` and ``nodes + 2``.
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

    def edges_in(self, tokens: Tokens, edges: int) -> tuple[Tokens, Tokens]:
        """Views [B, edges] of [B, T] tokens: the nodes that edges leave, and those that they enter."""
        first = 3 if self.query == "first" else 0
        end = first + 3 * edges
        return tokens[:, first:end:3], tokens[:, first + 1 : end : 3]

    def query_in(self, tokens: Tokens, edges: int) -> tuple[Tokens, Tokens]:
        """Views [B] of [B, T] tokens: start and goal."""
        at = 0 if self.query == "first" else 3 * edges
        return tokens[:, at], tokens[:, at + 1]

    def write(
        self, tokens: Tokens, edge_from: NDArray[Any], edge_to: NDArray[Any], start: NDArray[Any], goal: NDArray[Any]
    ) -> None:
        """Fills the prompt columns of [B, T] tokens from edges [B, edges] and ends [B]."""
        bar, equals, slash = range(self.nodes, self.nodes + 3)
        edges = edge_from.shape[1]
        for columns, values in zip(self.edges_in(tokens, edges), (edge_from, edge_to), strict=True):
            columns[...] = values
        for column, ends in zip(self.query_in(tokens, edges), (start, goal), strict=True):
            column[...] = ends
        tokens[:, 2 : 3 * edges + 2 : 3] = bar
        tokens[:, 2 if self.query == "first" else 3 * edges - 1] = slash
        tokens[:, 3 * edges + 2] = equals
