"""The shortcut, measured alone: put on a wrong arm, the model walks it.

Published (Bachmann & Nagarajan 2024, Table 1, Acc_cheat) [DIG: a digest of the paper; the formula was not found]:

    96 to 100 % on every graph but G(20, 5), where it is 0.0 for all models: there they do not even fit

Ours is ``follow`` (``foresee.metrics.shortcut``), a formula of our own, so that values are compared by side alone:
0.9 or more, or not.

Cost: none of its own; it reads another row of the runs of pitfalls-next-token. Hardware: ``foresee.studies.base``.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.experiments.studies.agreement import SameSide
from foresee.experiments.studies.base import Cell, Scale, Study, studies
from foresee.experiments.studies.budgets import G_20_5, PAPER_COST, PITFALLS, laptop_minutes, pitfalls_runs
from foresee.experiments.studies.published import percent, percents

TABLE_1 = "Bachmann & Nagarajan 2024, Table 1 (Acc_cheat)"


@studies.register("pitfalls-clever-hans")
class PitfallsCleverHans(Study):
    """``follow`` of next-token training on the paper's five graphs."""

    summary = "the shortcut of next-token training on the paper's five graphs: follow"
    question = "Has next-token training learned to walk whatever arm it is put on?"
    cost: ClassVar[dict[Scale, str]] = {"laptop": "the runs of pitfalls-next-token and no others", "paper": PAPER_COST}

    def cells(self, scale: Scale) -> list[Cell]:
        return [
            Cell(
                graph=graph.name, label="next-token", row="follow", specs=pitfalls_runs(graph, scale, "next-token"),
                published=percent(0.0, TABLE_1, "DIG") if graph == G_20_5 else percents(96, 100, TABLE_1, "DIG"),
                rule=SameSide(), minutes=laptop_minutes(graph, scale),
                note="our formula; the paper's was not found",
            )
            for graph in PITFALLS
        ]  # fmt: skip
