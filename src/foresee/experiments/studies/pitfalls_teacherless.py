"""Teacherless training, which shows no earlier answer token, finds the way forwards in some settings.

Published (Bachmann & Nagarajan 2024): "preliminary evidence" that it gets round the failure "in some settings" [ABS];
per model and graph not known to us. Noroozizadeh et al. (2510.26745) show a Transformer of 12 layers that learns
G(2, 5), the tokens nearest the goal first; its final accuracy is a picture [NVT]. No report of a small network from
scratch that solves more than G(2, 5) was found.

Laptop: 8 layers, 128 wide, both goals of each graph in a batch, fresh graphs, batch 256. G(2, 4) with ten seeds is
ours; G(2, 5) with three. The runs are committed under ``results/teacherless`` (their budgets differ by seed, as they
were made); only their controls are to be trained.

Cost, laptop: 16 core hours for what is committed, with other work on the same cores (G(2, 4): 5 to 10 minutes a run on
a core of its own; G(2, 5): 30 minutes for 10,000 steps); six controls about 15 core minutes. Hardware:
``foresee.studies.base``.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.experiments.studies.agreement import SameSide
from foresee.experiments.studies.base import Cell, Scale, Study, studies
from foresee.experiments.studies.budgets import G_2_5, PAPER_COST, PITFALLS, pitfalls_runs
from foresee.experiments.studies.published import unknown, words
from foresee.training.settings import Settings

PAPER = "Bachmann & Nagarajan 2024, teacherless"
LEARNS = words("learns; no number", "solved", "Noroozizadeh et al. 2510.26745, Figs. 5 and 24", "NVT")
STEPS_G_2_4 = {0: 3500, 1: 3500, 2: 4800, 3: 4000, 4: 4000, 5: 4000, 6: 4000, 7: 4000, 8: 4000, 9: 4800}
"""By seed, as the committed runs were made."""


def laptop_run(length: int, seed: int, steps: int) -> Settings:
    """A run as those under ``results/teacherless``."""
    return Settings.of(
        f"path-star:degree=2,length={length},nodes=50,goals=all", "teacherless", "gpt-nano:layers=8", seed=seed,
        steps=steps, data="fresh", test=5000, until_solved=True,
    )  # fmt: skip


@studies.register("pitfalls-teacherless")
class PitfallsTeacherless(Study):
    """``exact`` of teacherless training."""

    summary = "teacherless training: whether hiding the answer's earlier tokens finds the way forwards"
    question = "Is the arm chosen rightly when no earlier answer token is shown in training?"
    cost: ClassVar[dict[Scale, str]] = {
        "laptop": "its runs are committed; six controls take about 15 core minutes",
        "paper": PAPER_COST,
    }

    def cells(self, scale: Scale) -> list[Cell]:
        if scale == "paper":
            return [
                Cell(
                    graph=graph.name, label="teacherless", specs=pitfalls_runs(graph, scale, "teacherless"),
                    published=LEARNS if graph == G_2_5 else unknown(PAPER), rule=SameSide(),
                )
                for graph in PITFALLS
            ]  # fmt: skip
        short = tuple(laptop_run(4, seed, steps) for seed, steps in STEPS_G_2_4.items())
        long = tuple(laptop_run(5, seed, 10_000) for seed in range(3))
        return [
            Cell(
                graph="G(2, 4)", label="teacherless", specs=short,
                controls=tuple(run.control() for run in short[:3]), published=unknown(f"{PAPER}: not among its graphs"),
                rule=SameSide(), minutes=10.0, control_minutes=2.0,
            ),
            Cell(
                graph="G(2, 5)", label="teacherless", specs=long, published=LEARNS, rule=SameSide(), minutes=32.0,
                control_minutes=3.0,
                note="the published network has 12 layers of width 384",
            ),
        ]  # fmt: skip
