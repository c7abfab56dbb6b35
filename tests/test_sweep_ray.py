"""A sweep on a real Ray cluster of this machine: actors and workers are killed on the way, and so is the sweep."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import BACKBONE, TASK, outcome, tiny

from foresee.core import files
from foresee.experiments.sweeps import SweepProgress, run_all
from foresee.experiments.sweeps.parcel import CHECKPOINT, pack, saved_at, unpack
from foresee.experiments.sweeps.sweep_file import read_sweep
from foresee.training.loop import train
from foresee.training.settings import Settings

SMALL: dict[str, Any] = {"steps": 60, "batch": 32, "data": "fixed:300", "test": 40, "eval_every": 10, "warmup": 5}
RUNS = [("next-token", 0), ("teacherless:hybrid=0.5", 0), ("reversed", 1)]

# Parcels --------------------------------------------------------------------------------------------------------------


def written(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"{directory.name} {name}")
    return directory


def test_a_parcel_is_the_files_of_a_run_and_nothing_else(tmp_path: Path) -> None:
    sent = written(
        tmp_path / "sent", "spec.json", "metrics.jsonl", CHECKPOINT, "lock", "../other", ".x.part", "new.json"
    )
    parcel = pack(sent)
    assert list(parcel) == [CHECKPOINT, "new.json", "spec.json", "metrics.jsonl"]
    unpack({**parcel, "../../outside": b"", "lock": b""}, tmp_path / "received")
    assert pack(tmp_path / "received") == parcel
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "received", "sent"]


def test_weights_end_a_checkpoint_and_measurements_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = written(tmp_path / "begun", "spec.json", "metrics.jsonl", CHECKPOINT)
    done = written(tmp_path / "done", "rows.jsonl", "model.safetensors", "metrics.jsonl", "examples.jsonl")
    order: list[str] = []
    real = files.replace_file

    def noted(path: Path, write: Any) -> None:
        order.append(path.name)
        real(path, write)

    monkeypatch.setattr(files, "replace_file", noted)
    unpack(pack(done), begun)
    assert order == ["metrics.jsonl", "model.safetensors", "examples.jsonl", "rows.jsonl"]
    assert not (begun / "checkpoint").exists()
    assert (begun / "metrics.jsonl").read_text() == "done metrics.jsonl"


def test_a_new_state_is_noticed(tmp_path: Path) -> None:
    before = saved_at(tmp_path)
    written(tmp_path, "metrics.jsonl")
    assert saved_at(tmp_path) == before
    written(tmp_path, CHECKPOINT)
    assert saved_at(tmp_path) != before


# A cluster ------------------------------------------------------------------------------------------------------------


class Kills(SweepProgress):
    """Kills the first run's actor at its second report, and the second run's worker at its third."""

    def __init__(self) -> None:
        self.where: dict[str, str] = {}
        self.began_at: dict[str, list[int]] = {}
        self.reports: dict[str, int] = {}
        self.retried: list[tuple[str, str]] = []
        self.killed: list[str] = []

    def began(self, spec: Settings, step: int, where: str) -> None:
        self.where[spec.digest] = where
        self.began_at.setdefault(spec.digest, []).append(step)

    def report(self, spec: Settings, line: dict[str, Any], timing: dict[str, Any]) -> None:
        self.reports[spec.digest] = self.reports.get(spec.digest, 0) + 1
        worker, actor = re.findall(r"(?:process|actor) (\d+)", self.where[spec.digest])
        if len(self.killed) < 2 and spec.digest not in self.killed and self.reports[spec.digest] >= 2:
            os.kill(int(worker if self.killed else actor), signal.SIGKILL)
            self.killed.append(spec.digest)

    def retrying(self, spec: Settings, why: str) -> None:
        self.retried.append((spec.digest, why))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_sweep_whose_driver_actors_and_workers_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'foresee[ray]')")
    from sweeping import engine

    specs = [tiny(objective, seed=seed, **SMALL) for objective, seed in RUNS]
    undisturbed = {spec.digest: outcome(train(spec, tmp_path / "undisturbed").dir) for spec in specs}
    file = tmp_path / "sweep.yaml"
    runs = [{"task": TASK, "objective": objective, "backbone": BACKBONE, "seed": seed} for objective, seed in RUNS]
    file.write_text(json.dumps({"defaults": SMALL, "runs": runs}))
    assert read_sweep(file) == specs
    script = Path(__file__).parent / "sweeping.py"
    with subprocess.Popen(
        [sys.executable, str(script), "ray", str(file), str(tmp_path / "runs")], stdout=subprocess.PIPE, text=True
    ) as sweep:
        assert sweep.stdout is not None
        heard = [sweep.stdout.readline() for _ in range(4)]
        sweep.kill()
    assert any(line.startswith("began ") for line in heard)
    kills, before = Kills(), random.getstate()
    finished = run_all(specs, tmp_path / "runs", engine=engine("ray"), progress=kills)
    random.setstate(before)  # Ray draws from it
    assert [run.spec for run in finished] == specs
    assert len(kills.killed) == 2
    assert {digest for digest, _ in kills.retried} == set(kills.killed)
    for spec in specs:
        assert outcome(tmp_path / "runs" / spec.digest) == undisturbed[spec.digest]
    for digest in kills.killed:
        assert kills.began_at[digest][-1] > 0, "it continued from what had come back"
