"""What a training step of each objective costs, relative to next-token's.

    python benchmarks/objectives.py [--backbone transformer:layers=6,width=384,heads=6 --batch 64]

Every objective with its default options trains on the same G(2,5) batches; they take turns, so that whatever else the
machine does falls on all of them. A ratio is the median over rounds of the ratio within a round. Targets are those of
the published costs (docs/objectives.md names the sources); where a cost is given as a range, its upper end.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

import torch
from common import Target, parser, write

from foresee.bench import TrainingStep, interleaved
from foresee.environment import environment
from foresee.memory import keep_large_blocks
from foresee.objectives.base import objectives
from foresee.run_spec import RunSpec

TASK = "path-star:degree=2,length=5,nodes=50"
BASELINE = "next-token"
MOST = {
    "multi-token": 1.6, "multi-token-sequential": 1.24, "joint-multi-token": 1.22, "registers": 1.16,
    "token-order": 1.05, "future-bag": 1.05, "next-latent": 1.25, "belief-state": 2.6, "plan-tokens": 1.6,
    "future-insertion": 1.08,
}  # fmt: skip


def main() -> None:
    """Lets all of them take turns, and compares."""
    options = parser(__doc__)
    options.add_argument("--backbone", default="transformer:layers=6,width=384,heads=6")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--burst", type=float, default=0.5, help="seconds of training a turn")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.backbone, arguments.batch = "transformer:layers=2,width=32,heads=2", 8
        arguments.rounds, arguments.burst = 1, 0.0
    keep_large_blocks()
    works: dict[str, Callable[[], object]] = {}
    parameters = {}
    for name in [BASELINE, *(each for each in objectives.names() if each != BASELINE)]:
        data = f"fixed:{256 if arguments.quick else 20_000}"
        step = TrainingStep(RunSpec.of(TASK, name, arguments.backbone, batch=arguments.batch, device="cpu", data=data))
        works[name], parameters[name] = step, sum(each.numel() for each in step.objective.parameters())
    seconds = interleaved(works, "cpu", arguments.rounds, arguments.burst)
    ratios = {
        name: statistics.median(own / base for own, base in zip(each, seconds[BASELINE], strict=True))
        for name, each in seconds.items()
    }
    lines = [
        f"{name}: {ratio:.2f} x, {arguments.batch / statistics.median(seconds[name]):,.0f} examples/s, "
        f"{parameters[name]:,} parameters"
        for name, ratio in ratios.items()
    ]
    measured = {
        "task": TASK, "backbone": arguments.backbone, "batch": arguments.batch, "seconds": seconds, "ratios": ratios,
        "parameters": parameters, "threads": torch.get_num_threads(), "environment": environment(),
        "load": os.getloadavg(),
    }  # fmt: skip
    targets = [Target(f"{name} beside {BASELINE}", ratios[name], most=most) for name, most in MOST.items()]
    write(arguments.json, measured, lines, targets)


if __name__ == "__main__":
    main()
