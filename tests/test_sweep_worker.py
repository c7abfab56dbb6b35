"""A worker of a sweep, as a process of its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

from tiny import tiny

from foresee.experiments.sweeps.process import WORKER
from foresee.experiments.sweeps.worker import SAVING_SECONDS, Order

DROPS_ONE_INTERRUPT = """
import time

class Slow:
    def __del__(self):
        print("finalising", flush=True)
        time.sleep(600)

Slow()
"""


def test_an_abandoned_worker_ends_although_an_interrupt_was_dropped(tmp_path: Path) -> None:
    """Python drops an exception in a finaliser, and so the first request to stop."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text(DROPS_ONE_INTERRUPT)
    order = Order(tiny(steps=1_000_000).model_dump(), str(tmp_path / "runs"), 1, [str(plugin)])
    worker = subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stdin
    assert worker.stdout
    assert worker.stderr
    worker.stdin.write(json.dumps(dataclasses.asdict(order)) + "\n")
    worker.stdin.flush()
    assert worker.stderr.readline() == "finalising\n"
    worker.stdin.close()
    try:
        worker.wait(SAVING_SECONDS / 2)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == 0
    assert "Exception ignored in" in worker.stderr.read()
    assert json.loads(worker.stdout.readlines()[-1])["kind"] == "stopped"
    worker.stdout.close()
    worker.stderr.close()
