"""Line construction: the edges of one path through all its nodes, in any order. ``construction`` has the source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from foresee.tasks.base import tasks
from foresee.tasks.construction import Construction, subfactorial


@tasks.register("line-construction")
@dataclass(frozen=True, kw_only=True)
class LineConstruction(Construction):
    """``nodes`` of ``symbols`` labels on one directed path, its ``nodes - 1`` edges shuffled: ``=4,1|2,4`` for three.

    The defaults are the paper's. There are (nodes - 1)! canonical forms.
    """

    name: ClassVar[str] = "line-construction"
    summary: ClassVar[str] = "write the edges of one path in any order, a new one each time (Roll the dice)"
    closed: ClassVar[bool] = False

    @property
    def chance(self) -> float:
        # One path over k of the nodes, and circles over the others.
        count = math.factorial(self.nodes)
        paths = {k: math.perm(self.nodes, k) for k in range(2, self.nodes + 1)}
        return count / sum(ways * subfactorial(self.nodes - k) for k, ways in paths.items())

    def _shape_fault(self, walked: list[int]) -> str | None:
        return None if len(set(walked)) == self.nodes else f"the edges are not one path over {self.nodes} nodes"


tasks.preset("line-mini", "line-construction:symbols=9,nodes=8")
# 10,000 training examples (--data fixed:10000) and 1,024 generations.
tasks.preset("line-published", "line-construction:symbols=10,nodes=9")
