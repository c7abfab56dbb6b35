"""A worker of a sweep that trains nothing: what it does is decided by the run's seed. It needs no PyTorch, so it starts
at once.

    python scripted_worker.py MARKS

``MARKS`` is a folder in which each run leaves a line a start: the process's id, its threads, and its run's folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

FINISHES, DIES, RAISES, FAILS, DIES_ONCE, GETS_ON, IN_USE_ONCE, SLOW, BABBLES = range(9)


def send(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, **more}), flush=True)


def end(kind: str, failure: str = "", status: int = 0) -> None:
    send("end", kind=kind, failure=failure, status=status, peak=100 << 20)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work(seed: int, starts: int) -> None:
    """``starts`` counts how often the run was begun, this time included."""
    send("start", step=0)
    if seed == DIES or (seed == DIES_ONCE and starts == 1):
        die()
    if seed == RAISES:
        raise ArithmeticError("a defect")
    if seed == FAILS:
        end("failed", "the loss is nan", 1)
        sys.exit()
    if seed == IN_USE_ONCE and starts == 1:
        end("in use", "another process has it", 2)
        sys.exit()
    if seed == GETS_ON and starts < 8:
        send("step", step=starts)
        die()
    if seed == SLOW:
        time.sleep(60)
    if seed == BABBLES:
        print("half a li", flush=True)
        print("[1, 2]", flush=True)
        print("a warning", file=sys.stderr, flush=True)
        time.sleep(0.5)  # standard error comes by a way of its own; what comes after a run's end is not shown
    send("measuring", examples=3)
    end("finished")


def stop(number: int, frame: FrameType | None) -> None:
    end("stopped", "stopped and saved", 1)
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    for line in sys.stdin:
        order = json.loads(line)
        mark = Path(sys.argv[1]) / str(order["spec"]["seed"])
        with mark.open("a") as file:
            print(os.getpid(), os.environ["OMP_NUM_THREADS"], order["root"], file=file)
        work(order["spec"]["seed"], len(mark.read_text().splitlines()))


if __name__ == "__main__":
    main()
