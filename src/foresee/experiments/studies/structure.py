"""What the data do: the decision alone on arms of every length, and graphs whose structure is shown in other ways.

Published for the first token alone (arXiv 2604.06427): with 8 layers and 1.6 million parameters, strategies of up to 3
latent steps are discovered from the first step's supervision alone, and 4 are not [N]. Whether the steps count the
centre is not known to us; if they do not, G(d, l) takes l - 1 of them, which is the reading of the cells below.
Bachmann & Nagarajan's Table 5 has the same for l = 5 [DIG] and no shorter arms, which are the control that it lacks.

Published for structure (Frydenlund, arXiv 2410.13779 and 2503.10542; 8 layers of width 64, batch 1,024, online data, 5
seeds, labels = graph size) [N]: G(2, 5) is learned with edges in causal order and with split trees, not with the plain
form; arms in one piece are "much easier"; no numbers are known to us.
"""

from __future__ import annotations

from foresee.experiments.studies.base import Cell, Published, Scale, Study, over_seeds, studies, unknown, words
from foresee.experiments.studies.objectives import EQUAL
from foresee.experiments.studies.pitfalls import AT_PAPER_SCALE, PAPER_COST
from foresee.training.settings import CONTROL

CEILING = "arXiv 2604.06427"
FRYDENLUND = "Frydenlund, arXiv 2503.10542"
STEPS_FOUND = 3


@studies.register("first-token")
class FirstToken(Study):
    """``exact`` of the branch token alone, by length of the arms and number of arms, 8 layers deep. The control is
    reversed training of the whole path."""

    summary = "the branch token alone on arms of 2 to 6 nodes: where the depth that is found ends"
    question = "How many look-ups in a row does training on the first step alone discover?"
    laptop_cost = "30 runs and 30 controls, about 7 core hours at most, reckoned from the speed of G(2, 5)"
    paper_cost = PAPER_COST

    def cells(self, scale: Scale) -> list[Cell]:
        settings = AT_PAPER_SCALE if scale == "paper" else EQUAL | {"backbone": "gpt-nano:layers=8"}
        found, lost = words("discovered", "solved", CEILING, "N"), words("not discovered", "chance", CEILING, "N")
        return [
            Cell(
                graph=f"G({degree}, {length})", label="branch token alone", minutes=10.0, control_minutes=1.0,
                runs=over_seeds(2, f"path-star-branch:{options}", "next-token", **settings),
                controls=over_seeds(2, f"path-star:{options}", CONTROL, **settings),
                published=found if length - 1 <= STEPS_FOUND else lost,
            )
            for length in range(2, 7) for degree in (2, 3, 5)
            for options in [f"degree={degree},length={length},nodes=50"]
        ]  # fmt: skip


@studies.register("structure")
class Structure(Study):
    """``exact`` of next-token and teacherless training on G(2, 5), one property of the data changed at a time."""

    summary = "goals, order of edges, place of the query, labels, sizes and trees: what of the data helps"
    question = "Which property of the data makes the arm learnable without another objective?"
    laptop_cost = "28 runs and 14 controls, about 6 core hours at most, reckoned from the speed of G(2, 5)"
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
