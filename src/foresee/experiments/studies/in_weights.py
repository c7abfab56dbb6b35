"""One graph learned by heart: there plain next-token training succeeds, the contrast to a graph in the prompt.

Published (Noroozizadeh et al., arXiv 2510.26745) [P]: Transformer and Mamba reach up to about 100 % on held-out ends
with next-token training; trained on the first step alone they learn it too; in context the same network stays at chance
on G(2, 5), G(10, 5) and G(20, 5). Numbers by graph are not known to us. Their graphs: G(5000, 5), G(10000, 6) and
G(10000, 10).

Laptop: G(500, 4) in the weights of 2 layers, 128 wide (1,720 rows a second); beside it the in-context runs on G(2, 5)
of objectives. There are 125 held-out ends, so test examples repeat: the intervals, which take them as
independent, are too narrow. Paper: how many steps it takes is not known to us ("a few thousand" epochs suffice).
"""

from __future__ import annotations

from foresee.experiments.studies.base import Cell, Scale, Study, over_seeds, studies, words
from foresee.experiments.studies.pitfalls import G_2_5, NEXT_TOKEN
from foresee.training.settings import Settings

SOURCE = "Noroozizadeh et al. 2510.26745, in weights"


def in_weights_runs(scale: Scale, answer: str) -> tuple[Settings, ...]:
    """One run a seed, with the budget of the scale."""
    if scale == "paper":
        return over_seeds(
            3, f"in-weights-5000-5:answer={answer}", "next-token", "transformer:layers=12,width=384,heads=8",
            steps=50_000, batch=1024, lr=5e-5, data="fresh", eval_every=1000, until_solved=True,
        )  # fmt: skip
    return over_seeds(
        2, f"in-weights-path-star:degree=500,length=4,answer={answer}", "next-token",
        "transformer:layers=2,width=128,heads=4", steps=6000, batch=256, lr=2e-3, data="fresh", eval_every=100,
        test=1000, until_solved=True,
    )  # fmt: skip


@studies.register("in-weights")
class InWeights(Study):
    """``exact`` of next-token training on held-out ends of one memorised graph, beside the same in context."""

    summary = "one graph learned by heart: next-token training finds paths it was never asked for"
    question = "Does next-token training choose the arm when the graph is in its weights and not in the prompt?"
    laptop_cost = "6 runs, about 90 core minutes at most, beside runs of objectives"
    paper_cost = "not measured; 50,000 steps of batch 1,024 a run of a network of 21 million parameters: for a GPU"

    def cells(self, scale: Scale) -> list[Cell]:
        graph = f"{'G(5000, 5)' if scale == 'paper' else 'G(500, 4)'} in weights"
        paths = in_weights_runs(scale, "path")
        controls = tuple(run.control() for run in paths)
        return [
            Cell(
                graph=graph, label="next-token", runs=paths, controls=controls, minutes=15.0,
                published=words("up to about 1.00", "solved", SOURCE, "P"),
                note="held-out ends repeat among the test examples in weights",
            ),
            Cell(
                graph=graph, label="first step alone", runs=in_weights_runs(scale, "first"), controls=controls,
                minutes=15.0, published=words("learns; no number", "solved", f"{SOURCE}, first step alone", "P"),
            ),
            G_2_5.cell(scale, "next-token", NEXT_TOKEN[G_2_5.name], graph=f"{G_2_5.name} in context", rule="interval"),
        ]  # fmt: skip
