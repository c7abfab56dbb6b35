"""Every objective that comes with the package on one small graph and one budget.

Published for G(2, 5), where anything is:

    next-token    48 to 50 % (Bachmann & Nagarajan 2024, Table 2, d = 2) [DIG]
    reversed      learns, no number (the same) [DIG]
    teacherless   learns with 12 layers of width 384, no number (Noroozizadeh et al., Figs. 5 and 24) [NVT]
    multi-token   two tokens 100 % with 500,000 examples (Huang, arXiv 2604.11912) [N]
    belief-state  solved, no number: its authors' figure, from memory of others, which we do not cite: unknown

All others are unknown on this graph. A laptop budget that does not solve says nothing against an objective: the table
answers which are quick, not which can.

Cost, laptop: gpt-nano, at most 2,000 steps of batch 128, three seeds: 51 runs, 2 to 4 minutes each, about 130 core
minutes in all; the runs are committed under ``results/laptop-objectives``. Paper: gpt-mini, not measured. Hardware:
``foresee.studies.base``.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.experiments.studies.agreement import SameSide
from foresee.experiments.studies.base import Cell, Scale, Study, studies
from foresee.experiments.studies.budgets import G_2_5, PAPER_COST, pitfalls_runs
from foresee.experiments.studies.pitfalls_next_token import EXACT
from foresee.experiments.studies.pitfalls_teacherless import LEARNS
from foresee.experiments.studies.published import Published, unknown, words
from foresee.objectives.base import objectives

KNOWN: dict[str, Published] = {
    "next-token": EXACT[2],
    "reversed": words("learns; no number", "solved", "Bachmann & Nagarajan 2024, reversed", "DIG"),
    "teacherless": LEARNS,
    "multi-token": words("1.00 with two tokens", "solved", "Huang, arXiv 2604.11912", "N"),
}
NOTES = {
    "multi-token": "multi-token: published with two tokens, ours predicts four",
    "teacherless": "teacherless: published with 12 layers of width 384",
}
NOT_KNOWN = unknown("no accuracy of this objective on G(2, 5) from scratch is known to us")


@studies.register("laptop-objectives")
class LaptopObjectives(Study):
    """``exact`` of every built-in objective with its default options on G(2, 5)."""

    summary = "every objective on G(2, 5) with one budget: which are quick"
    question = "Which objectives choose the arm on G(2, 5) within 2,000 steps of a small network, and how soon?"
    baseline = "next-token"
    cost: ClassVar[dict[Scale, str]] = {
        "laptop": "51 runs of 2 to 4 minutes, about 130 core minutes",
        "paper": PAPER_COST,
    }

    def cells(self, scale: Scale) -> list[Cell]:
        # Other people's objectives are theirs to study.
        own = [name for name in objectives.names() if objectives.get(name).__module__.startswith("foresee.")]
        return [
            Cell(
                graph=G_2_5.name, label=name, specs=pitfalls_runs(G_2_5, scale, name),
                controls=pitfalls_runs(G_2_5, scale, "reversed"), published=KNOWN.get(name, NOT_KNOWN),
                rule=SameSide(), minutes=4.0 if scale == "laptop" else None, note=NOTES.get(name, ""),
            )
            for name in own
        ]  # fmt: skip
