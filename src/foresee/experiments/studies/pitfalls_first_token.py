"""The one hard token trained alone: without anything easy beside it, it is not learned either.

Published (Bachmann & Nagarajan 2024, Table 5, the first, hard token trained and scored alone, in percent) [DIG: a
digest of the paper; which value belongs to which graph is inferred from chance]:

    G(2, 5) 50.2      G(2, 20) 50.4      G(5, 5) 18.9      G(10, 5) 10.4      G(20, 5) 4.5

Ours: the task ``path-star-branch``, whose answer is the node after the centre and nothing else. How the paper did it in
code was not found; the deviation we know of is in ``foresee.tasks.path_star_branch``.

The control is reversed training of the whole path on the same graphs and budget: written backwards, an answer of one
token is the same task again, which proves nothing.

Agreement: the published number meets each seed's 95 % interval. Cost, laptop: 9 runs, about 47 core minutes at most,
beside the controls, which are runs of pitfalls-reversed. Hardware: ``foresee.studies.base``.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.experiments.studies.agreement import WithinInterval
from foresee.experiments.studies.base import Cell, Scale, Study, studies
from foresee.experiments.studies.budgets import PAPER_COST, PITFALLS, laptop_minutes, pitfalls_runs
from foresee.experiments.studies.published import percent

TABLE_5 = "Bachmann & Nagarajan 2024, Table 5"
ALONE = {"G(2, 5)": 50.2, "G(2, 20)": 50.4, "G(5, 5)": 18.9, "G(10, 5)": 10.4, "G(20, 5)": 4.5}


@studies.register("pitfalls-first-token")
class PitfallsFirstToken(Study):
    """``exact`` of the branch token, trained alone."""

    summary = "the branch token trained alone on the paper's five graphs"
    question = "Is the one hard token learned when no easy token is there to be fitted first?"
    cost: ClassVar[dict[Scale, str]] = {
        "laptop": "about 47 core minutes at most beside the controls, which are runs of pitfalls-reversed",
        "paper": PAPER_COST,
    }

    def cells(self, scale: Scale) -> list[Cell]:
        return [
            Cell(
                graph=graph.name, label="branch token alone",
                specs=pitfalls_runs(graph, scale, "next-token", "path-star-branch"),
                controls=pitfalls_runs(graph, scale, "reversed"),
                published=percent(ALONE[graph.name], TABLE_5, "DIG"), rule=WithinInterval(),
                minutes=laptop_minutes(graph, scale),
            )
            for graph in PITFALLS
        ]  # fmt: skip
