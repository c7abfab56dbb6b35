"""What a training step of each objective costs, relative to next-token's.

    python benchmarks/objectives.py [--backbone transformer:layers=6,width=384,heads=6 --batch 64 --goals one]

Every objective with its default options trains on the same G(2,5) batches, of one goal a graph or of all, whose rows
share their prompt; they take turns, so that whatever else the machine does falls on all of them. A ratio is the median
over rounds of the ratio within a round. Targets are those of the published costs (docs/objectives.md names the
sources), of one goal a graph; where a cost is given as a range, its upper end.

Our next-token computes the last layer at the positions that predict and nowhere else; an objective that needs that
layer everywhere cannot leave it out. So ratios are also given beside a next-token that computes every position, as
usual code does.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

import torch
from common import Target, parser, write

from foresee.core.batch import Batch
from foresee.core.isolation import keep_large_blocks
from foresee.experiments.bench import TrainingStep, interleaved
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_loss
from foresee.training.process import environment
from foresee.training.settings import Settings

TASK = "path-star:degree=2,length=5,nodes=50,goals="
BASELINE, EVERYWHERE = "next-token", "next-token-everywhere"
MOST = {
    "multi-token": 1.6, "multi-token-sequential": 1.24, "joint-multi-token": 1.22, "registers": 1.16,
    "token-order": 1.05, "future-bag": 1.05, "next-latent": 1.25, "belief-state": 2.6, "plan-tokens": 1.6,
    "future-insertion": 1.08,
}  # fmt: skip


class NextTokenEverywhere(NextToken):
    """Next-token whose network computes every layer at every position; the head still reads the answer's alone."""

    summary = "next-token, computed at every position"

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        hidden = self.backbone(self.backbone.embed(batch.tokens[:, : last - 1]))
        return answer_loss(self.backbone.logits(hidden[:, first - 1 :]), batch, "next-token")


def main() -> None:
    """Lets all of them take turns, and compares."""
    options = parser(__doc__)
    options.add_argument("--backbone", default="transformer:layers=6,width=384,heads=6")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--goals", default="one", choices=("one", "all"))
    options.add_argument("--only", help="names of objectives, joined by commas; all by default")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--burst", type=float, default=0.5, help="seconds of training a turn")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.backbone, arguments.batch = "transformer:layers=2,width=32,heads=2", 8
        arguments.rounds, arguments.burst = 1, 0.0
    task = TASK + arguments.goals
    keep_large_blocks()
    works: dict[str, Callable[[], object]] = {}
    parameters = {}
    names = [BASELINE, EVERYWHERE, *(each for each in objectives.names() if each != BASELINE)]
    objectives.register(EVERYWHERE)(NextTokenEverywhere)
    if arguments.only:
        names = [BASELINE, EVERYWHERE, *arguments.only.split(",")]
    for name in names:
        data = f"fixed:{256 if arguments.quick else 20_000}"
        step = TrainingStep(Settings.of(task, name, arguments.backbone, batch=arguments.batch, device="cpu", data=data))
        works[name], parameters[name] = step, sum(each.numel() for each in step.objective.parameters())
    seconds = interleaved(works, "cpu", arguments.rounds, arguments.burst)
    ratios, everywhere = (
        {
            name: statistics.median(own / base for own, base in zip(each, seconds[beside], strict=True))
            for name, each in seconds.items()
        }
        for beside in (BASELINE, EVERYWHERE)
    )
    lines = [
        f"{name}: {ratio:.2f} x ({everywhere[name]:.2f} x {EVERYWHERE}), "
        f"{arguments.batch / statistics.median(seconds[name]):,.0f} examples/s, {parameters[name]:,} parameters"
        for name, ratio in ratios.items()
    ]
    measured = {
        "task": task, "backbone": arguments.backbone, "batch": arguments.batch, "seconds": seconds, "ratios": ratios,
        "ratios_everywhere": everywhere, "parameters": parameters, "threads": torch.get_num_threads(),
        "environment": environment(), "load": os.getloadavg(),
    }  # fmt: skip
    targets = [
        Target(f"{name} beside {beside}", found[name], most=most)
        for beside, found in ((BASELINE, ratios), (EVERYWHERE, everywhere))
        for name, most in MOST.items()
        if name in found
    ]
    write(arguments.json, measured, lines, targets)


if __name__ == "__main__":
    main()
