"""What circle and line construction share: edges in shuffled order that together form one shape.

Nagarajan et al. 2025 ("Roll the dice", arXiv 2504.15266). Nothing is asked and nothing is given: each training example
is a new shape, its nodes drawn from a small set of symbols, its edges in random order. To write an edge early is to
leave room for those that complete the shape.

Canonical form. Node names do not matter: two answers are the same where renaming the nodes turns one into the other,
edge by edge in the order written. The paper's released evaluator counts an answer as memorised by that form but tells
duplicates apart by their raw text, and accepts reversed edges and short lines (research/tasks.md section 6); here the
canonical form decides both, edges are directed as in the training examples, and a shape has all of its nodes.

Deviations: one answer in eight, by its canonical form, is held out. No symbol ends an answer: all have one length.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy
import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import writing
from foresee.tasks.base import Task

Edges = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Construction(Task):
    """Shapes of ``nodes`` different ones of ``symbols`` labels. The prompt is ``=``, the answer ``u,v|u,v|...`` (the
    commas are not tokens). Tokens 0 .. symbols - 1 are the labels; ``|`` and ``=`` follow.

    ``chance`` is of a solver that keeps the local rules, every node left and entered at most once and none by an edge
    to itself, and draws the rest: the share of such answers that are one shape.

    Raises ``RequestError`` for fewer than 3 nodes and for fewer symbols than nodes.
    """

    name: ClassVar[str]
    closed: ClassVar[bool]
    """Whether an edge leads from the last node back to the first."""

    symbols: int = 10
    nodes: int = 9

    def __post_init__(self) -> None:
        if self.nodes < 3:
            raise RequestError(f"{self.name}: nodes={self.nodes} must be at least 3")
        if self.symbols < self.nodes:
            raise RequestError(f"{self.name}: symbols={self.symbols}, but nodes={self.nodes} needs at least as many")

    @property
    def edges(self) -> int:
        """Edges of a shape."""
        return self.nodes if self.closed else self.nodes - 1

    @cached_property
    def vocab(self) -> Vocabulary:
        """The labels, then the two delimiters."""
        return Vocabulary((*map(str, range(self.symbols)), "|", "="))

    @property
    def prompt_length(self) -> int:
        return 1

    @property
    def answer_length(self) -> int:
        return 3 * self.edges - 1

    @property
    def open_ended(self) -> bool:
        return True

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
        """The labels from 0 on in order, which are as right as any. Raises ``RequestError`` on another prompt."""
        writing.require_prompt(prompt, [self.vocab.token("=")], self.name)
        text = "|".join(f"{node},{(node + 1) % self.nodes}" for node in range(self.edges))
        return self._tokens(writing.edges(text, self.symbols))

    def _tokens(self, edges: Edges) -> list[int]:
        bar = self.vocab.token("|")
        return [token for edge in edges for token in (*edge, bar)][:-1]

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        writing.require_prompt(prompt, [self.vocab.token("=")], self.name)
        answer = [int(token) for token in answer]
        if len(answer) != self.answer_length or set(answer[2::3]) - {self.vocab.token("|")}:
            return False
        if not all(token < self.symbols for token in answer[::3] + answer[1::3]):
            return False
        return self._fault(list(zip(answer[::3], answer[1::3], strict=True))) is None

    def _fault(self, edges: Edges) -> str | None:
        """What is wrong with the edges of an answer, or None."""
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
        return self._shape_fault(walked)

    @abstractmethod
    def _shape_fault(self, walked: list[int]) -> str | None:
        """What is wrong with the nodes in the order of a walk that takes one edge after the other until there is no
        further one or as many as there are edges were taken, or None."""

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: a fingerprint of the answer with its nodes renamed by first appearance."""
        tokens = batch.tokens[:, 1 : 3 * self.edges].cpu().numpy()
        # The column where a token first appears names it whatever it is called; delimiters stay in their columns.
        return fingerprint((tokens[:, :, None] == tokens[:, None, :]).argmax(axis=2))

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        return "".join(self.vocab.decode(prompt)) + self.write_answer(answer)

    def write_answer(self, answer: Sequence[int]) -> str:
        return ",".join(self.vocab.decode(answer)).replace(",|,", "|")

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        start, equals, text = line.strip().partition("=")
        if start or not equals:
            raise RequestError("a line reads =u,v|u,v|...: '=', then the edges")
        edges = writing.edges(text, self.symbols)
        if edges and (fault := self._fault(edges)):
            raise RequestError(fault)
        return [self.vocab.token("=")], self._tokens(edges)

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return {}


def subfactorial(n: int) -> int:
    """Permutations of n things that leave none in its place."""
    found = 1
    for k in range(1, n + 1):
        found = found * k + (-1) ** k
    return found
