"""Circle construction: the edges of one circle through all its nodes, in any order. ``construction`` has the source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from foresee.tasks.base import tasks
from foresee.tasks.construction import Construction, subfactorial


@tasks.register("circle-construction")
@dataclass(frozen=True, kw_only=True)
class CircleConstruction(Construction):
    """``nodes`` of ``symbols`` labels on one directed circle, its ``nodes`` edges shuffled: ``=4,1|2,4|1,2`` for three.

    The defaults are the paper's. There are (nodes - 1)! canonical forms.
    """

    name: ClassVar[str] = "circle-construction"
    summary: ClassVar[str] = "write the edges of one circle in any order, a new one each time (Roll the dice)"
    closed: ClassVar[bool] = True

    @property
    def chance(self) -> float:
        return math.factorial(self.nodes - 1) / subfactorial(self.nodes)

    def _shape_fault(self, walked: list[int]) -> str | None:
        circle = walked[: walked.index(walked[0], 1)] if walked[0] in walked[1:] else walked
        if len(circle) < self.nodes or len(circle) == len(walked):
            return f"the edges are not one circle through {self.nodes} nodes"
        return None


tasks.preset("circle-mini", "circle-construction:symbols=9,nodes=8")
# 10,000 training examples (--data fixed:10000) and 1,024 generations.
tasks.preset("circle-published", "circle-construction:symbols=10,nodes=9")
