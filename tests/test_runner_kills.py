"""Kills at random moments, of workers and of the process that leads: every run ends as if nothing had been."""

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

from foresee.experiments.pool import SAVING_SECONDS
from foresee.training.loop import train

KILLS = 50
SMALL: dict[str, Any] = {"steps": 40, "batch": 32, "data": "fixed:300", "test": 40, "eval_every": 2, "warmup": 5}
RUNS = [("next-token", 0), ("teacherless:hybrid=0.5", 0), ("reversed", 1), ("next-token", 1)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc"),
]


def command_of(pid: int) -> str:
    """A process's command line; empty where it has ended, also where nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def workers_of(pid: int) -> list[int]:
    """The workers that a process has now."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(word) for word in words if "spawn_main" in command_of(int(word))]


@dataclass
class Leading:
    """``leading.py`` in a process of its own."""

    engine: str
    file: Path
    root: Path
    workers: set[int] = field(default_factory=set)
    """Every worker that was seen."""

    def __post_init__(self) -> None:
        argv = [str(Path(__file__).parent / "leading.py"), self.engine, str(self.file), str(self.root)]
        self.process = subprocess.Popen(
            [sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def hear(self, events: int) -> str | None:
        """The last of that many things that happen; None where it ended before."""
        assert self.process.stdout is not None
        line = ""
        for _ in range(events):
            line = self.process.stdout.readline()
            self.workers.update(workers_of(self.process.pid))
            if not line:
                return None
        return line

    def end(self) -> tuple[int, str]:
        """Its exit status and standard error, once it ends; then none of its workers may be left."""
        _, errors = self.process.communicate()
        deadline = time.monotonic() + SAVING_SECONDS
        while any(map(command_of, self.workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in self.workers if command_of(pid)]
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The bytes of each run, trained alone."""
    root = tmp_path_factory.mktemp("undisturbed")
    asked = [tiny(objective, seed=seed, **SMALL) for objective, seed in RUNS]
    return {each.digest: outcome(train(each, root).dir) for each in asked}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The sweep."""
    path = tmp_path / "sweep.yaml"
    runs = [{"task": TASK, "objective": objective, "backbone": BACKBONE, "seed": seed} for objective, seed in RUNS]
    path.write_text(json.dumps({"defaults": SMALL, "runs": runs}))
    return path


def test_every_run_ends_with_the_bytes_of_an_undisturbed_one(
    undisturbed: dict[str, dict[str, bytes]], file: Path, tmp_path: Path
) -> None:
    rng = random.Random(11)
    killed = {"lead": 0, "worker": 0}
    finished: list[Path] = []
    root = tmp_path / "runs 0"
    while sum(killed.values()) < KILLS or root not in finished:
        leading = Leading("local", file, root)
        # Most kills are of workers, often of both at once: starting the process that leads takes longest.
        while sum(killed.values()) < KILLS and leading.hear(rng.randrange(1, 16)):
            time.sleep(rng.random() / 50)
            if rng.random() < 0.2:
                leading.process.kill()
                killed["lead"] += 1
                break
            for worker in workers_of(leading.process.pid):
                if rng.random() < 0.8:
                    os.kill(worker, signal.SIGKILL)
                    killed["worker"] += 1
        status, errors = leading.end()
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


@pytest.mark.parametrize(("engine", "library"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_cluster_that_loses_workers_and_is_stopped(
    engine: str, library: str, undisturbed: dict[str, dict[str, bytes]], file: Path, tmp_path: Path
) -> None:
    """On this machine: Ray starts a cluster of its cores, submitit runs jobs as processes."""
    pytest.importorskip(library)
    root = tmp_path / "runs"
    leading = Leading(engine, file, root)
    assert leading.hear(4)
    leading.process.send_signal(signal.SIGTERM)
    status, errors = leading.end()
    assert status == 1
    assert "InterruptedTrainingError: stopped: " in errors
    leading = Leading(engine, file, root)
    lost = 0
    while line := leading.hear(1):
        kind, digest, *_ = line.split()
        if kind == "report" and lost < 2:
            for pid in _holders(root / digest):
                os.kill(pid, signal.SIGKILL)
                lost += 1
    status, errors = leading.end()
    assert (status, lost) == (0, 2), errors
    for digest, files in undisturbed.items():
        assert outcome(root / digest) == files


def _holders(folder: Path) -> list[int]:
    """The processes that have a run's lock open."""
    found = []
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if opened.resolve(strict=True) == (folder / "lock").resolve():
                found.append(int(opened.parts[2]))
        except OSError:
            continue
    return found
