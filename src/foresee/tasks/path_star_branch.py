"""The one decision of path-star asked for alone: the node after the centre, on the arm that leads to the goal.

Bachmann & Nagarajan (2024) train and score the hard token by itself (their Table 5, as a digest reports it; their code
for it was not found). Deviation, as far as we can tell: it is predicted from ``=``, while in a whole answer it is
predicted from the position that reads the start, a copy that comes before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy
import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.tasks.base import tasks
from foresee.tasks.path_star import PathStar


@tasks.register("path-star-branch", later=("labels",))
@dataclass(frozen=True, kw_only=True)
class PathStarBranch(PathStar):
    """Graphs, prompts, options and split are those of ``path-star``; a line reads ``u,v|u,v|.../start,goal=node``.

    Facts: ``branch`` [B], all 0. The arms are not among them: nothing that is written here walks along one.
    """

    summary: ClassVar[str] = "the first step of a path-star answer alone, the only one that is a decision"

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self).update(chance=1 / self.degree, plateau=math.log(self.degree), answer_length=1)

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        return 1

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        whole = super().sample(n, rng)
        rows, end = torch.arange(len(whole)), whole.prompt_len
        tokens = whole.tokens[:, : self.prompt_length + 1].clone()
        tokens[rows, end] = whole.tokens[rows, end + 1]
        # After shorter prompts the rest of the path would follow.
        tokens[torch.arange(tokens.shape[1]) > end[:, None]] = 0
        prompt_len = self.prompt_length if self.sizes == "fixed" else end
        return Batch.of(tokens, prompt_len, 1, self.facts_of(whole))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The node after the start."""
        return super().solve(prompt)[1:2]

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        (right,) = self.solve(prompt)
        if list(answer) == [right]:
            return None
        written = ",".join(self.vocab.decode(answer))
        return f"the answer is {written!r}, but the first step towards the goal is to {right}"

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return {"branch": torch.zeros(len(batch), dtype=torch.int64)}
