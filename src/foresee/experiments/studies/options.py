"""Options that are said to slow objectives down, each beside its other value: by when the look-ups are found.

Published: nothing of these on path-star. What is expected, by the objectives' own repositories and papers [N]: further
heads of multi-token that weigh 1 each together weigh three times as much as the next token; the weights of the
diffusion bound vary so much that 17 % of rows have no loss; a mean over symbols is 1/54 of the published sum at 50
labels; 42 of 54 negatives of ranking-future are not in the prompt; left to right is the hardest order to decode in.
"""

from __future__ import annotations

from foresee.experiments.studies.base import Cell, Scale, Study, over_seeds, studies, unknown
from foresee.experiments.studies.pitfalls import AT_PAPER_SCALE, PAPER_COST

PAIRS = (
    ("multi-token", "multi-token:weight=1.0"),
    ("masked-diffusion", "masked-diffusion:weighting=elbo"),
    ("future-bag", "future-bag:reduction=sum"),
    ("ranking-future", "ranking-future:negatives=prompt"),
    ("any-order", "any-order:table=shared,decode=goal-first"),
)
"""The default, and the other value."""


@studies.register("objective-options")
class ObjectiveOptions(Study):
    """``rest`` on G(2, 5) after 600 steps: whether the look-ups are found, and by when."""

    summary = "options of five objectives, each beside its other value: by which step the look-ups are found"
    question = "Which values of these options find the look-ups on G(2, 5) soonest?"
    laptop_cost = "30 runs and 3 controls, about 50 core minutes"
    paper_cost = PAPER_COST
    look_ups = True
    nothing = unknown("no measurement of this option on this graph is known to us")

    def cells(self, scale: Scale) -> list[Cell]:
        settings = AT_PAPER_SCALE if scale == "paper" else {"steps": 600, "test": 1000}
        return [
            Cell(
                graph="G(2, 5)", label=name, row="rest", published=self.nothing, minutes=1.5,
                runs=over_seeds(3, "path-star:degree=2,length=5,nodes=50", name, **settings),
            )
            for pair in PAIRS
            for name in pair
        ]  # fmt: skip
