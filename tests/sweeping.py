"""A sweep in a process of its own that can be killed: ``python sweeping.py local|ray SWEEP.yaml RUNS``.

It writes the name of everything that happens to standard output, a line each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from foresee.experiments.sweeps import Engine, Local, SweepProgress, run_all
from foresee.experiments.sweeps.sweep_file import read_sweep
from foresee.training.settings import Settings

WORKER = (sys.executable, str(Path(__file__).parent / "saving_worker.py"))


class Tells(SweepProgress):
    def began(self, spec: Settings, step: int, where: str) -> None:
        print("began", spec.digest, step, flush=True)

    def report(self, spec: Settings, line: dict[str, Any], timing: dict[str, Any]) -> None:
        print("report", spec.digest, line["step"], flush=True)

    def measuring(self, spec: Settings, examples: int) -> None:
        print("measuring", spec.digest, flush=True)

    def retrying(self, spec: Settings, why: str) -> None:
        print("retrying", spec.digest, flush=True)


def engine(name: str) -> Engine:
    """Two workers of one thread that save at every step."""
    if name == "local":
        return Local(workers=2, threads=1, command=WORKER)
    from foresee.experiments.sweeps.on_ray import OnRay

    return OnRay(workers=2, send_seconds=0.0, command=WORKER)


if __name__ == "__main__":
    run_all(read_sweep(Path(sys.argv[2])), sys.argv[3], engine=engine(sys.argv[1]), progress=Tells())
