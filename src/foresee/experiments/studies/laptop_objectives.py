"""Every objective that comes with the package on G(2, 5), on one budget.

Published for that graph, where anything is:

    next-token    48 to 50 % (Bachmann & Nagarajan 2024, Table 2, d = 2) [DIG]
    reversed      learns, no number (the same) [DIG]
    teacherless   learns with 12 layers of width 384, no number (Noroozizadeh et al., Figs. 5 and 24) [NVT]
    multi-token   two tokens 100 % with 500,000 examples (Huang, arXiv 2604.11912) [N]
    belief-state  solved, no number: its authors' figure, from memory of others, which we do not cite: unknown

All others are unknown there. A laptop budget that does not solve says nothing against an objective: the table answers
which are quick, not which can. Its runs are committed under ``results/laptop-objectives``.
"""

from __future__ import annotations

from foresee.experiments.studies.base import Cell, Scale, Study, studies, unknown, words
from foresee.experiments.studies.pitfalls import G_2_5, NEXT_TOKEN, PAPER_COST, REVERSED, TEACHERLESS
from foresee.objectives.base import objectives

PUBLISHED = {
    "next-token": NEXT_TOKEN[G_2_5.name],
    "reversed": REVERSED,
    "teacherless": TEACHERLESS,
    "multi-token": words("1.00 with two tokens", "solved", "Huang, arXiv 2604.11912", "N"),
}
NOT_KNOWN = unknown("no accuracy of this objective on G(2, 5) from scratch is known to us")
NOTES = {
    "multi-token": "multi-token: published with two tokens, ours predicts four",
    "teacherless": "teacherless: published with 12 layers of width 384",
}


@studies.register("laptop-objectives")
class LaptopObjectives(Study):
    """``exact`` of every built-in objective with its default options on G(2, 5)."""

    summary = "every objective on G(2, 5) with one budget: which are quick"
    question = "Which objectives choose the arm on G(2, 5) within 2,000 steps of a small network, and how soon?"
    laptop_cost = "54 runs of 2 to 4 minutes, about 140 core minutes"
    paper_cost = PAPER_COST
    baseline = "next-token"

    def cells(self, scale: Scale) -> list[Cell]:
        # Other people's objectives are theirs to study.
        own = [name for name in objectives.names() if objectives.get(name).__module__.startswith("foresee.")]
        minutes, controls = 4.0 if scale == "laptop" else None, G_2_5.runs(scale, "reversed")
        return [
            G_2_5.cell(scale, name, PUBLISHED.get(name, NOT_KNOWN), controls=controls, minutes=minutes,
                       note=NOTES.get(name, ""))
            for name in own
        ]  # fmt: skip
