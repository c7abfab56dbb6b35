"""The same task written backwards is learned: the positive control.

Published (Bachmann & Nagarajan 2024): reversed training learns the task [DIG]; in context, Noroozizadeh et al.
(2510.26745, Fig. 20) find it perfect [NVT]. Numbers by graph and model are not known to us.

Agreement: each seed solves (0.95 or more). Cost, laptop: the controls of pitfalls-next-token and no others; a run stops
once it has solved. Hardware: ``foresee.studies.base``.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.experiments.studies.agreement import SameSide
from foresee.experiments.studies.base import Cell, Scale, Study, studies
from foresee.experiments.studies.budgets import PAPER_COST, PITFALLS, laptop_minutes, pitfalls_runs
from foresee.experiments.studies.published import words


@studies.register("pitfalls-reversed")
class PitfallsReversed(Study):
    """``exact`` of reversed training on the paper's five graphs."""

    summary = "reversed training on the paper's five graphs: the positive control"
    question = "Is the task learned when the answer is written from the goal to the start?"
    cost: ClassVar[dict[Scale, str]] = {"laptop": "the controls of pitfalls-next-token", "paper": PAPER_COST}

    def cells(self, scale: Scale) -> list[Cell]:
        found = []
        for graph in PITFALLS:
            specs = pitfalls_runs(graph, scale, "reversed")
            learns = words("learns; no number", "solved", "Bachmann & Nagarajan 2024, reversed", "DIG")
            found.append(
                Cell(
                    graph=graph.name, label="reversed", specs=specs, controls=specs, published=learns, rule=SameSide(),
                    minutes=laptop_minutes(graph, scale),
                )
            )  # fmt: skip
        return found
