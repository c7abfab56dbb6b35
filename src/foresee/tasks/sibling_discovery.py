"""Sibling discovery: write children of one parent, and the parent last, a combination that was never seen.

Nagarajan et al. 2025 ("Roll the dice", arXiv 2504.15266); docs/tasks.md says where this deviates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from string import ascii_lowercase
from typing import Annotated, ClassVar

import numpy
import torch

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.base import Bounds, Task, tasks
from foresee.tasks.text import TextForm, require_prompt


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
