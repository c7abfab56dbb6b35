"""Mamba fails as the Transformer does.

Published (Bachmann & Nagarajan 2024): the same failure [ABS, DIG]; the range of d = 2 in Table 2 is 48 to 50 % for all
models [DIG]. The size of the paper's Mamba was not found; at paper scale ours has the depth and width of gpt-mini,
state 16, convolution 4, expansion 2, as Noroozizadeh et al. have theirs [NVT].

Laptop: mamba-nano (3 layers, 128 wide) on G(2, 5), 1,600 steps; the runs are committed under ``results/mamba``.

Cost, laptop: 2 core hours for what is committed, with other work on the same cores (15 to 31 minutes a run). Paper: not
measured. Hardware: ``foresee.studies.base``.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.experiments.studies.agreement import WithinInterval
from foresee.experiments.studies.base import Cell, Scale, Study, over_seeds, studies
from foresee.experiments.studies.budgets import EPOCHS_100, G_2_5, PAPER_COST, PAPER_SEEDS, PITFALLS
from foresee.experiments.studies.pitfalls_next_token import EXACT


@studies.register("pitfalls-mamba")
class PitfallsMamba(Study):
    """``exact`` of next-token training with Mamba."""

    summary = "next-token training with Mamba in place of the Transformer"
    question = "Is the failure one of attention?"
    cost: ClassVar[dict[Scale, str]] = {
        "laptop": "its runs are committed; again, 15 to 31 minutes each on one core",
        "paper": PAPER_COST,
    }

    def cells(self, scale: Scale) -> list[Cell]:
        if scale == "paper":
            return [
                Cell(
                    graph=graph.name, label="next-token, Mamba",
                    specs=over_seeds(
                        PAPER_SEEDS, graph.task(), "next-token", "mamba:layers=12,width=384", steps=EPOCHS_100, lr=5e-4,
                        weight_decay=0.0, eval_every=1000, until_solved=True,
                    ),
                    published=EXACT[graph.degree], rule=WithinInterval(),
                )
                for graph in PITFALLS
            ]  # fmt: skip
        specs = over_seeds(3, G_2_5.task(), "next-token", "mamba-nano", steps=1600, test=10_000, until_solved=True)
        return [
            Cell(
                graph=G_2_5.name, label="next-token, Mamba", specs=specs, published=EXACT[2], rule=WithinInterval(),
                minutes=31.0,
            )
        ]  # fmt: skip
