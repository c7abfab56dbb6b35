"""Fifty SIGKILLs at random moments of a sweep, of its workers and of itself: every run ends as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tiny import BACKBONE, TASK, outcome, tiny

from foresee.experiments.sweeps.worker import SAVING_SECONDS
from foresee.training.loop import train

KILLS = 50
SMALL: dict[str, Any] = {"steps": 40, "batch": 32, "data": "fixed:300", "test": 40, "eval_every": 2, "warmup": 5}
RUNS = [("next-token", 0), ("teacherless:hybrid=0.5", 0), ("reversed", 1), ("next-token", 1)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="children are read from /proc"),
]


def running(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not, and has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """The processes that a process's main thread has started and that still run."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(word) for word in words if running(int(word))]


@dataclass
class Sweep:
    """A sweep in a process of its own."""

    file: Path
    root: Path
    workers: set[int] = field(default_factory=set)
    """Every worker that was seen."""

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "sweeping.py"), "local", str(self.file), str(self.root)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def hear(self, events: int) -> bool:
        """Waits until that many things have happened; False where the sweep ended before."""
        assert self.process.stdout is not None
        for _ in range(events):
            if not self.process.stdout.readline():
                return False
        self.workers.update(children(self.process.pid))
        return True

    def end(self) -> tuple[int, str]:
        """Its exit status and standard error, once it ends; then none of its workers may be left."""
        _, errors = self.process.communicate()
        deadline = time.monotonic() + SAVING_SECONDS
        while any(map(running, self.workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in self.workers if running(pid)]
        return self.process.returncode, errors


def test_every_run_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    runs = [{"task": TASK, "objective": objective, "backbone": BACKBONE, "seed": seed} for objective, seed in RUNS]
    file.write_text(json.dumps({"defaults": SMALL, "runs": runs}))
    specs = [tiny(objective, seed=seed, **SMALL) for objective, seed in RUNS]
    undisturbed = {spec.digest: outcome(train(spec, tmp_path / "undisturbed").dir) for spec in specs}
    rng = random.Random(11)
    killed = {"sweep": 0, "worker": 0}
    finished: list[Path] = []
    root = tmp_path / "runs 0"
    while sum(killed.values()) < KILLS or root not in finished:
        sweep = Sweep(file, root)
        # Most kills are of workers, often of both at once: starting a sweep takes longest.
        while sum(killed.values()) < KILLS and sweep.hear(rng.randrange(1, 16)):
            time.sleep(rng.random() / 50)
            at_work = children(sweep.process.pid)
            if rng.random() < 0.2:
                sweep.process.kill()
                killed["sweep"] += 1
                break
            for worker in at_work:
                if rng.random() < 0.8:
                    os.kill(worker, signal.SIGKILL)
                    killed["worker"] += 1
        status, errors = sweep.end()
        assert status in (0, 1, -signal.SIGKILL), errors
        if status == 1:
            assert "times in a row without getting further" in errors
        if status == 0:
            finished.append(root)
            if sum(killed.values()) < KILLS:
                root = tmp_path / f"runs {len(finished)}"
    assert min(killed.values()) >= 5
    for each in finished:
        for digest, files in undisturbed.items():
            assert outcome(each / digest) == files
