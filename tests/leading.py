"""A process that leads runs and can be killed: ``python leading.py ENGINE SWEEP.yaml RUNS``.

It writes what happens to standard output, a line each. Its workers save at every step. It has no guard on purpose.
"""

from __future__ import annotations

import sys
from pathlib import Path

from foresee.core.plugins import load_plugin_file
from foresee.experiments.cluster import Slurm
from foresee.experiments.engine import Engine, make_engine
from foresee.experiments.runner import run_all
from foresee.experiments.sweep import read_sweep
from foresee.training.progress import Progress
from foresee.training.records import Report, Timing
from foresee.training.settings import Settings


class Tells(Progress):
    """Prints."""

    def start(self, settings: Settings, step: int) -> None:
        print("start", settings.digest, step, flush=True)

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        print("report", settings.digest, line["step"], flush=True)

    def note(self, settings: Settings, text: str) -> None:
        print("note", settings.digest, text, flush=True)


engine: Engine = Slurm(jobs=2, cluster="local") if sys.argv[1] == "slurm" else make_engine(sys.argv[1], jobs=2)
load_plugin_file(Path(__file__).parent / "saving_plugin.py")
run_all(read_sweep(Path(sys.argv[2])), sys.argv[3], engine=engine, progress=Tells())
