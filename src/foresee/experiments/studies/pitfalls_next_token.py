"""Next-token training stays at 1/d on path-star.

Published (Bachmann & Nagarajan 2024, Table 2, next-token, free running) [DIG: a digest of the paper; which cell is
which, and the cells themselves, were not seen]:

    d = 2: 48 to 50 %      d = 5: 19 to 20 %      d = 10: 8 to 10 %      d = 20: not known to us

for every model tried, from scratch and pretrained, Transformer and Mamba.

Agreement: the published range meets each seed's 95 % interval (a rate at chance does not depend on the model).

Cost, laptop: runs of G(2, 5) are those of laptop-objectives; the others are 6 of next-token and 6 of the control, about
80 core minutes at most and 60 where the control solves early: half an hour on two cores. Paper: not measured.
Hardware: ``foresee.studies.base``.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.experiments.studies.agreement import WithinInterval
from foresee.experiments.studies.base import Cell, Scale, Study, studies
from foresee.experiments.studies.budgets import PAPER_COST, PITFALLS, laptop_minutes, pitfalls_runs
from foresee.experiments.studies.published import percents, unknown

TABLE_2 = "Bachmann & Nagarajan 2024, Table 2"
EXACT = {
    2: percents(48, 50, TABLE_2, "DIG"),
    5: percents(19, 20, TABLE_2, "DIG"),
    10: percents(8, 10, TABLE_2, "DIG"),
    20: unknown(f"{TABLE_2}: the range of d = 20 is not known to us"),
}


@studies.register("pitfalls-next-token")
class PitfallsNextToken(Study):
    """``exact`` of next-token training on the paper's five graphs, beside 1/d."""

    summary = "next-token training on the paper's five graphs: exact beside 1/d"
    question = "Does next-token training learn to choose the arm, or does it stay at 1/d?"
    cost: ClassVar[dict[Scale, str]] = {
        "laptop": "about 80 core minutes at most beside the runs of laptop-objectives: 40 minutes on two cores",
        "paper": PAPER_COST,
    }

    def cells(self, scale: Scale) -> list[Cell]:
        return [
            Cell(
                graph=graph.name, label="next-token", specs=pitfalls_runs(graph, scale, "next-token"),
                published=EXACT[graph.degree], rule=WithinInterval(), minutes=laptop_minutes(graph, scale),
            )
            for graph in PITFALLS
        ]  # fmt: skip
