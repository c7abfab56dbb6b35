"""Circle and line construction: edges in shuffled order that together form one circle or one path through all nodes.

Nagarajan et al. 2025 ("Roll the dice", arXiv 2504.15266); docs/tasks.md says where this deviates. Nothing is asked and
nothing is given. To write an edge early is to leave room for those that complete the shape.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy
import torch

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.tasks.base import Bounds, Labels, Task, label_vocabulary, require_option, tasks
from foresee.tasks.text import TextForm, pairs_in, require_prompt


@dataclass(frozen=True, kw_only=True)
class Construction(Task):
    """Shapes of ``nodes`` different ones of ``symbols`` labels. The prompt is ``=``, the answer ``u,v|u,v|...`` (the
    commas are not tokens). Tokens 0 .. symbols - 1 are the labels; ``|`` and ``=`` follow.

    ``chance`` is of a solver that keeps the local rules, every node left and entered at most once and none by an edge
    to itself, and draws the rest: the share of such answers that are one shape. There are (nodes - 1)! different ones.
    Raises ``RequestError`` for fewer than 3 nodes or symbols than nodes.
    """

    text = TextForm("=u,v|u,v|...", answer_marks=("|",), noun="label", item="edge", between="|")
    open_ended = True
    symbols: int = 10
    nodes: Annotated[int, Bounds(3)] = 9
    labels: Labels = "numbers"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self, "symbols", self.nodes)
        k = self.nodes
        # One path over some of the nodes, and circles over the others; where an edge closes it, circles over all.
        paths = sum(math.perm(k, n) * subfactorial(k - n) for n in range(2, k + 1))
        chance = math.factorial(k - 1) / subfactorial(k) if self.closed else math.factorial(k) / paths
        vocab = label_vocabulary(self.labels, self.symbols, "|", "=")
        self.declare(vocab=vocab, chance=chance, prompt_length=1, answer_length=3 * self.edges - 1)

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether an edge leads from the last node back to the first."""

    @property
    def edges(self) -> int:
        """Edges of a shape."""
        return self.nodes if self.closed else self.nodes - 1

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        order = rng.random((n, self.symbols)).argsort(axis=1)[:, : self.nodes]
        pairs = numpy.stack([order, numpy.roll(order, -1, axis=1)], axis=2)[:, : self.edges]
        shuffled = rng.random((n, self.edges)).argsort(axis=1)
        bar, equals = self.symbols, self.symbols + 1
        tokens = numpy.full((n, self.edges, 3), bar, numpy.int64)
        tokens[:, :, 1:] = numpy.take_along_axis(pairs, shuffled[..., None], axis=1)
        tokens[:, 0, 0] = equals
        return Batch.of(torch.from_numpy(tokens.reshape(n, -1)), 1, self.answer_length)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The labels from 0 on in order, which are as right as any."""
        require_prompt(prompt, self.vocab.token("="))
        bar = self.vocab.token("|")
        return [token for node in range(self.edges) for token in (node, (node + 1) % self.nodes, bar)][:-1]

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        require_prompt(prompt, self.vocab.token("="))
        try:
            edges = pairs_in([int(token) for token in answer], self.vocab.token("|"), self.symbols, self.vocab)
        except RequestError as error:
            return str(error)
        if len(edges) != self.edges:
            return f"there are {len(edges)} edges, but {self.nodes} nodes make {self.edges}"
        following = dict(edges)
        entered = {child for _, child in edges}
        if len(following) < len(edges):
            return "a node is left twice"
        if len(entered) < len(edges):
            return "a node is entered twice"
        firsts = [node for node in following if node not in entered]
        walked = [firsts[0] if firsts else edges[0][0]]
        while walked[-1] in following and len(walked) <= len(edges):
            walked.append(following[walked[-1]])
        if len(set(walked)) == self.nodes and (not self.closed or walked[-1] == walked[0]):
            return None
        return f"the edges are not one {'circle through' if self.closed else 'path over'} {self.nodes} nodes"

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: a fingerprint of the answer with its nodes renamed by first appearance."""
        tokens = batch.tokens[:, 1 : 3 * self.edges].cpu().numpy()
        # The column where a token first appears names it whatever it is called; delimiters stay in their columns.
        return fingerprint((tokens[:, :, None] == tokens[:, None, :]).argmax(axis=2))


@tasks.register("circle-construction", later=("labels",))
@dataclass(frozen=True, kw_only=True)
class CircleConstruction(Construction):
    """``nodes`` of ``symbols`` labels on one directed circle, its ``nodes`` edges shuffled: ``=4,1|2,4|1,2`` for three.
    The defaults are the paper's."""

    summary: ClassVar[str] = "write the edges of one circle in any order, a new one each time (Roll the dice)"
    closed = True


@tasks.register("line-construction", later=("labels",))
@dataclass(frozen=True, kw_only=True)
class LineConstruction(Construction):
    """``nodes`` of ``symbols`` labels on one directed path, its ``nodes - 1`` edges shuffled: ``=4,1|2,4`` for three.
    The defaults are the paper's."""

    summary: ClassVar[str] = "write the edges of one path in any order, a new one each time (Roll the dice)"
    closed = False


def subfactorial(n: int) -> int:
    """Permutations of n things that leave none in its place."""
    found = 1
    for k in range(1, n + 1):
        found = found * k + (-1) ** k
    return found


tasks.preset("circle-mini", "circle-construction:symbols=9,nodes=8")
tasks.preset("line-mini", "line-construction:symbols=9,nodes=8")
# 10,000 training examples (--data fixed:10000) and 1,024 generations.
tasks.preset("circle-published", "circle-construction:symbols=10,nodes=9")
tasks.preset("line-published", "line-construction:symbols=10,nodes=9")
