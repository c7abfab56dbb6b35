"""A local sweep beside the same runs one after the other with all cores each.

    python benchmarks/sweep.py

Eight `gpt-nano` runs on G(2, 5), seeds 0 to 7. Both contenders are `run_all`: starting workers, training, evaluating
and measuring are all in their times. They take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from common import Target, parser, write

from foresee.experiments.machine import cores
from foresee.experiments.pool import WorkerPool
from foresee.experiments.runner import run_all
from foresee.training.settings import Settings

LEAST = 1.6
RUNS = 8


def seconds(specs: list[Settings], engine: WorkerPool) -> tuple[float, float]:
    """Of all of it, and of the runs' own training added up."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        runs = run_all(specs, Path(folder), engine=engine)
        return time.perf_counter() - began, sum(run.seconds for run in runs)


def main() -> None:
    """Measures both."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=1)
    made.add_argument("--steps", type=int, default=100, help="of each run")
    arguments = made.parse_args()
    steps, batch, test = (4, 32, 100) if arguments.quick else (arguments.steps, 256, 2000)
    specs = [
        Settings.of("path-star:degree=2,length=5,nodes=50,goals=one", "next-token", steps=steps, batch=batch,
                   data="fixed:20000", test=test, seed=seed)
        for seed in range(2 if arguments.quick else RUNS)
    ]  # fmt: skip
    contenders = {"one after the other": WorkerPool(jobs=1, threads=cores()), "sweep": WorkerPool()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, engine in contenders.items():
            taken[name].append(seconds(specs, engine))
    whole = {name: statistics.median(each for each, _ in times) for name, times in taken.items()}
    training = {name: statistics.median(each for _, each in times) for name, times in taken.items()}
    ratio = whole["one after the other"] / whole["sweep"]
    targets = [Target(f"throughput of a sweep of {len(specs)} runs on {cores()} cores", ratio, least=LEAST)]
    lines = [
        f"{name}: {whole[name]:.1f} s, of which {training[name] / len(specs):.2f} s of training a run; "
        f"{len(specs) * steps * batch / whole[name]:,.0f} examples a second"
        for name in contenders
    ]
    write(arguments.json, {"cores": cores(), "seconds": whole, "training": training, "ratio": ratio}, lines, targets)


if __name__ == "__main__":
    main()
