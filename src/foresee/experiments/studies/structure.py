"""What the data do: the decision alone, structure shown in other ways, arms that differ, and a graph learned by heart.

Published for the first token alone (arXiv 2604.06427): with 8 layers and 1.6 million parameters, strategies of up to 3
latent steps are discovered from the first step's supervision alone, and 4 are not [N]. Whether the steps count the
centre is not known to us; if they do not, G(d, l) takes l - 1 of them, which is the reading of the cells below.
Bachmann & Nagarajan's Table 5 has the same for l = 5 [DIG] and no shorter arms, which are the control that it lacks.

Published for structure (Frydenlund, arXiv 2410.13779 and 2503.10542; 8 layers of width 64, batch 1,024, online data, 5
seeds, labels = graph size) [N]: G(2, 5) is learned with edges in causal order and with split trees, not with the plain
form; arms in one piece are "much easier"; no numbers are known to us.

Published for the public star graphs, whose arms differ in length (insertion language models, arXiv 2505.05755, by the
repository dhruvdcoder/xlm-core) [N]: exact answers of star-small, star-medium and star-hard after training on 50,000
examples, tested on 5,000. Network and steps are not known to us. Their graphs are drawn here by the same rules; to use
the published files themselves, give ``--data`` and ``--test-data`` to ``foresee train``. Laptop: the study
``objectives``' equal settings with the published 50,000 examples; 12 layers on the hard graph, whose decision takes up
to eleven look-ups.

Published for one graph in the weights (Noroozizadeh et al., arXiv 2510.26745) [P]: Transformer and Mamba reach up to
about 100 % on held-out ends with next-token training; trained on the first step alone they learn it too; in context the
same network stays at chance on G(2, 5), G(10, 5) and G(20, 5). Numbers by graph are not known to us. Their graphs:
G(5000, 5), G(10000, 6) and G(10000, 10). Laptop: G(500, 4) in the weights of 2 layers, 128 wide (1,720 rows a second);
beside it the in-context runs on G(2, 5) of ``objectives``. Paper: how many steps it takes is not known to us ("a few
thousand" epochs suffice).
"""

from __future__ import annotations

from typing import Any

from foresee.experiments.studies.base import Cell, Published, Scale, Study, over_seeds, percent, studies, unknown, words
from foresee.experiments.studies.objectives import EQUAL
from foresee.experiments.studies.pitfalls import AT_PAPER_SCALE, G_2_5, NEXT_TOKEN, PAPER_COST
from foresee.training.settings import Settings

CEILING = "arXiv 2604.06427"
FRYDENLUND = "Frydenlund, arXiv 2503.10542"
STEPS_FOUND = 3


@studies.register("first-token")
class FirstToken(Study):
    """``exact`` of the branch token alone, by length of the arms and number of arms, 8 layers deep. The control is
    reversed training of the whole path."""

    summary = "the branch token alone on arms of 2 to 6 nodes: where the depth that is found ends"
    question = "How many look-ups in a row does training on the first step alone discover?"
    paper_cost = PAPER_COST

    def cells(self, scale: Scale) -> list[Cell]:
        settings = AT_PAPER_SCALE if scale == "paper" else EQUAL | {"backbone": "gpt-nano:layers=8"}
        found, lost = words("discovered", "solved", CEILING, "N"), words("not discovered", "chance", CEILING, "N")
        return [
            Cell(
                graph=f"G({degree}, {length})", label="branch token alone", minutes=10.0, control_minutes=1.0,
                # As many rows on every graph, in whole graphs.
                runs=over_seeds(2, f"path-star-branch:{options}", "next-token", **batch | settings),
                published=found if length - 1 <= STEPS_FOUND else lost,
            )
            for length in range(2, 7) for degree in (2, 3, 5)
            for options in [f"degree={degree},length={length},nodes=50"]
            for batch in [{"batch": -(-128 // degree) * degree}]
        ]  # fmt: skip


@studies.register("structure")
class Structure(Study):
    """``exact`` of next-token and teacherless training on G(2, 5), one property of the data changed at a time."""

    summary = "goals, order of edges, place of the query, labels, sizes and trees: what of the data helps"
    question = "Which property of the data makes the arm learnable without another objective?"
    paper_cost = PAPER_COST
    plain = words("not learned", "chance", FRYDENLUND, "N")
    learned = words("learned", "solved", FRYDENLUND, "N")
    not_known = unknown("no result of this change alone is known to us")
    changes: dict[str, tuple[str, Published]] = {  # noqa: RUF012
        "plain": ("", plain),
        "one goal a graph": (",goals=one", plain),
        "arms in one piece": (",order=arm-wise", not_known),
        "edges in causal order": (",order=causal-wise", learned),
        "query first": (",query=first", not_known),
        "mixed sizes": (",sizes=mixed", not_known),
        "split trees": (",splits=1", learned),
    }

    def cells(self, scale: Scale) -> list[Cell]:
        settings = AT_PAPER_SCALE if scale == "paper" else EQUAL
        return [
            Cell(
                graph=f"G(2, 5), {change}", label=name, minutes=10.0, control_minutes=1.0,
                runs=over_seeds(2, f"path-star:degree=2,length=5,nodes=50{options}", name, **settings),
                published=published if name == "next-token" else self.not_known,
            )
            for change, (options, published) in self.changes.items()
            for name in ("next-token", "teacherless")
        ]  # fmt: skip


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
    paper_cost = "not measured; 50,000 steps of batch 1,024 a run of a network of 21 million parameters: for a GPU"

    def cells(self, scale: Scale) -> list[Cell]:
        graph = f"{'G(5000, 5)' if scale == 'paper' else 'G(500, 4)'} in weights"
        paths = in_weights_runs(scale, "path")
        controls = tuple(run.control() for run in paths)
        return [
            Cell(
                graph=graph, label="next-token", runs=paths, controls=controls, minutes=15.0,
                published=words("up to about 1.00", "solved", SOURCE, "P"),
            ),
            Cell(
                graph=graph, label="first step alone", runs=in_weights_runs(scale, "first"), controls=controls,
                minutes=15.0, published=words("learns; no number", "solved", f"{SOURCE}, first step alone", "P"),
            ),
            G_2_5.cell(scale, "next-token", NEXT_TOKEN[G_2_5.name], graph=f"{G_2_5.name} in context", rule="interval"),
        ]  # fmt: skip
