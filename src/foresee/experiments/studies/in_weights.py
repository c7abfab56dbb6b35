"""One graph learned by heart: there plain next-token training succeeds, the contrast to a graph in the prompt.

Published (Noroozizadeh et al., arXiv 2510.26745) [P]: Transformer and Mamba reach up to about 100 % on held-out ends
with next-token training; trained on the first step alone they learn it too; in context the same network stays at chance
on G(2, 5), G(10, 5) and G(20, 5). Numbers by graph are not known to us. Their graphs: G(5000, 5), G(10000, 6) and
G(10000, 10).

Laptop: G(500, 4) in the weights of 2 layers, 128 wide, 6,000 steps of batch 256, fresh rows, two seeds; beside it the
in-context runs on G(2, 5) of laptop-objectives. There are 125 held-out ends, so test examples repeat: the intervals,
which take them as independent, are too narrow. Paper: G(5000, 5) with 12 layers of width 384, learning rate 5e-5,
batch 1,024; how many steps the paper takes is not known to us ("a few thousand" epochs suffice).

Agreement: each seed lies on the published side. Cost, laptop: 6 runs, about 90 core minutes at most (measured: 1,720
rows a second). Paper: not measured. Hardware: ``foresee.studies.base``.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.experiments.studies.agreement import SameSide, WithinInterval
from foresee.experiments.studies.base import Cell, Scale, Study, over_seeds, studies
from foresee.experiments.studies.budgets import G_2_5, laptop_minutes, pitfalls_runs
from foresee.experiments.studies.pitfalls_next_token import EXACT
from foresee.experiments.studies.published import words
from foresee.training.settings import Settings

SOURCE = "Noroozizadeh et al. 2510.26745, in weights"
LEARNED = words("up to about 1.00", "solved", SOURCE, "P")
FIRST_STEP = words("learns; no number", "solved", f"{SOURCE}, first step alone", "P")


def runs(scale: Scale, answer: str) -> tuple[Settings, ...]:
    """One run a seed, with the budget of the scale."""
    if scale == "paper":
        return over_seeds(
            3, f"in-weights-5000-5:answer={answer}", "next-token", "transformer:layers=12,width=384,heads=8",
            steps=50_000, batch=1024, lr=5e-5, data="fresh", eval_every=1000, until_solved=True,
        )  # fmt: skip
    return over_seeds(
        2, f"in-weights-path-star:degree=500,length=4,answer={answer}", "next-token",
        "transformer:layers=2,width=128,heads=4", steps=6000, batch=256, lr=2e-3, data="fresh", test=1000,
        until_solved=True,
    )  # fmt: skip


@studies.register("in-weights")
class InWeights(Study):
    """``exact`` of next-token training on held-out ends of one memorised graph, beside the same in context."""

    summary = "one graph learned by heart: next-token training finds paths it was never asked for"
    question = "Does next-token training choose the arm when the graph is in its weights and not in the prompt?"
    cost: ClassVar[dict[Scale, str]] = {
        "laptop": "6 runs, about 90 core minutes at most, beside runs of laptop-objectives",
        "paper": "not measured; 50,000 steps of batch 1,024 a run of a network of 21 million parameters: for a GPU",
    }

    def cells(self, scale: Scale) -> list[Cell]:
        graph = "G(5000, 5)" if scale == "paper" else "G(500, 4)"
        minutes = 15.0 if scale == "laptop" else None
        paths = runs(scale, "path")
        controls = tuple(spec.control() for spec in paths)
        return [
            Cell(
                graph=f"{graph} in weights", label="next-token", specs=paths, controls=controls, published=LEARNED,
                rule=SameSide(), minutes=minutes, note="held-out ends repeat among the test examples in weights",
            ),
            Cell(
                graph=f"{graph} in weights", label="first step alone", specs=runs(scale, "first"), controls=controls,
                published=FIRST_STEP, rule=SameSide(), minutes=minutes,
            ),
            Cell(
                graph=f"{G_2_5.name} in context", label="next-token", specs=pitfalls_runs(G_2_5, scale, "next-token"),
                published=EXACT[2], rule=WithinInterval(), minutes=laptop_minutes(G_2_5, scale),
            ),
        ]  # fmt: skip
