"""The public star graphs, whose arms differ in length: insertion, diffusion and random orders beside next-token.

Published (insertion language models, arXiv 2505.05755, by the repository dhruvdcoder/xlm-core) [N]: exact answers of
star-small, star-medium and star-hard after training on 50,000 examples, tested on 5,000. Network and steps are not
known to us. Their graphs are drawn here by the same rules; to use the published files themselves, give ``--data`` and
``--test-data`` to ``foresee train``.

Laptop: the study ``objectives``' equal settings with the published 50,000 examples; 12 layers on the hard graph, whose
decision takes up to eleven look-ups.
"""

from __future__ import annotations

from typing import Any

from foresee.experiments.studies.base import Cell, Published, Scale, Study, over_seeds, percent, studies, unknown
from foresee.experiments.studies.objectives import EQUAL
from foresee.experiments.studies.pitfalls import AT_PAPER_SCALE, PAPER_COST

ILM: dict[str, Any] = {"source": "arXiv 2505.05755, xlm-core", "tag": "N"}
PUBLISHED: dict[str, dict[str, Published]] = {
    "next-token": {"easy": percent(32.3, **ILM), "medium": percent(75.0, **ILM), "hard": percent(23.0, **ILM)},
    "masked-diffusion": {"easy": percent(100.0, **ILM), "medium": percent(36.5, **ILM), "hard": percent(21.0, **ILM)},
    "insertion": {"easy": percent(100.0, **ILM), "medium": percent(100.0, **ILM), "hard": percent(99.1, **ILM)},
}
EXAMPLES = "fixed:50000"
SETTINGS = {name: value for name, value in EQUAL.items() if name != "data"}


@studies.register("public-star")
class PublicStar(Study):
    """``exact`` on the easy, medium and hard public star graphs."""

    summary = "the public star graphs, easy, medium and hard: insertion and diffusion beside next-token"
    question = "Do insertion, masked diffusion and random orders find the path where arms differ in length?"
    laptop_cost = "24 runs and 6 controls, about 7 core hours at most, reckoned from the speed of G(2, 5)"
    paper_cost = PAPER_COST
    not_known = unknown("no result of this objective on these graphs is known to us")
    baseline = "next-token"
    levels: dict[str, tuple[dict[str, Any], float]] = {  # noqa: RUF012
        "easy": ({}, 10.0), "medium": ({}, 10.0), "hard": ({"backbone": "gpt-nano:layers=12"}, 20.0),
    }  # fmt: skip
    """What is set apart at laptop scale, and the minutes of a run."""

    def cells(self, scale: Scale) -> list[Cell]:
        return [
            Cell(
                graph=level, label=name, published=PUBLISHED.get(name, {}).get(level, self.not_known),
                runs=over_seeds(2, f"star-{level}", name, data=EXAMPLES,
                                **(AT_PAPER_SCALE if scale == "paper" else SETTINGS | own)),
                minutes=minutes,
            )
            for level, (own, minutes) in self.levels.items()
            for name in ("next-token", "insertion", "masked-diffusion", "any-order")
        ]  # fmt: skip
