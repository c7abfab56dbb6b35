"""What workers of a pool do in tests: what a run's seed says. Needs no PyTorch, so it starts at once."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from pathlib import Path

from foresee.core.errors import ForeseeError, ForeseeWarning, InUseError
from foresee.experiments.engine import Order
from foresee.experiments.pool import WorkerPool
from foresee.training.settings import Settings

FINISHES, DIES, RAISES, FAILS, DIES_ONCE, GETS_ON, IN_USE_ONCE, SLOW, LOST, BABBLES = range(10)


def starts(root: Path, seed: int) -> list[list[str]]:
    """What each start of a run noted: its process and threads."""
    path = root / f"{seed}.starts"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def work(order: Order) -> None:
    """In place of ``train_one``."""
    fields, root, threads, _ = order
    seed, folder = fields["seed"], Path(root) / Settings.read(fields).digest
    with (Path(root) / f"{seed}.starts").open("a") as file:
        print(os.getpid(), threads, file=file)
    times = len(starts(Path(root), seed))
    folder.mkdir(exist_ok=True)
    if seed == GETS_ON and times < 8:
        (folder / "model.safetensors").write_text(str(times))
    if seed == DIES or (seed == DIES_ONCE and times == 1) or (seed == GETS_ON and times < 8):
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == RAISES:
        raise ArithmeticError("a defect")
    if seed == FAILS:
        raise ForeseeError("the loss is nan")
    if seed == IN_USE_ONCE and times == 1:
        raise InUseError("another process has it")
    if seed == SLOW:
        _report(folder)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            (folder / "saved").touch()
            raise
    if seed == BABBLES:
        print("for standard error", flush=True)
        warnings.warn("a file is not read", ForeseeWarning, stacklevel=1)
    if seed != LOST:
        (folder / "rows.jsonl").touch()


def _report(folder: Path) -> None:
    line = {"step": 1, "examples": 1, "loss": 1.0, "parts": {}, "lr": 1.0, "eval": {"exact": 0.0}}
    (folder / "timing.jsonl").write_text('{"step": 1, "seconds": 1.0, "examples_per_second": 1.0}\n')
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")


class Scripted(WorkerPool):
    """A pool of such workers."""

    work = staticmethod(work)
