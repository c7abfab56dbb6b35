"""``python -m foresee.experiments.sweeps``: a process that trains runs of a sweep, one after the other.

It reads what to train from standard input (``Order``, a JSON object a line) and writes its progress to standard output
(``Events``, likewise). Standard input stays open as long as whoever started it lives. When that ends, however it ends,
the worker saves its run at the end of the step and ends too; should it not manage to, it kills itself.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import torch

from foresee.core.errors import ForeseeError
from foresee.core.registry import load_plugin_file
from foresee.training.guard import InUseError
from foresee.training.loop import InterruptedTrainingError, train
from foresee.training.progress import Progress
from foresee.training.settings import Settings

SAVING_SECONDS = 60.0
"""How long an abandoned worker may take to save before it is killed."""
ASKING_SECONDS = 1.0
"""Between two requests to an abandoned worker to stop. One is not enough: Python drops an interrupt that comes while it
runs a finaliser, and one that comes as training ends is not looked at any more."""
STEP_SECONDS = 0.5
"""The least time between two events that only count steps."""

Kind = Literal["finished", "failed", "in use", "stopped"]


@dataclass(frozen=True)
class Order:
    """What a worker is asked to do."""

    spec: dict[str, Any]
    """The fields of a ``Settings``."""
    root: str
    threads: int
    plugins: list[str]


class Events(Progress):
    """Writes what happens as JSON lines; once nobody reads them, nowhere."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._last_step = 0.0

    def send(self, event: str, **more: Any) -> None:
        """Writes one event."""
        try:
            self._stream.write(json.dumps({"event": event, **more}) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            # The reader is gone; standard input has ended as well, and sees to it that this process stops.
            return

    def start(self, spec: Settings, step: int) -> None:
        self.send("start", step=step)

    def step(self, step: int) -> None:
        now = time.monotonic()
        if now - self._last_step >= STEP_SECONDS:
            self._last_step = now
            self.send("step", step=step)

    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        self.send("report", line=line, timing=timing)

    def finish(self) -> None: ...

    def measuring(self, examples: int) -> None:
        self.send("measuring", examples=examples)

    def end(self, kind: Kind, failure: str = "", status: int = 0) -> None:
        """The last event."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.send("end", kind=kind, failure=failure, status=status, peak=peak)


def main() -> None:
    """Trains what standard input asks for until it ends, or until something goes wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Whatever a plug-in prints goes to standard error: standard output carries events alone.
    events = Events(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    orders: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    try:
        while True:
            order = Order(**json.loads(orders.get()))
            _work(order, events)
            events.end("finished")
    except InUseError as error:
        events.end("in use", str(error), error.status)
    except InterruptedTrainingError as error:
        events.end("stopped", str(error), error.status)
    except KeyboardInterrupt:
        events.end("stopped", "stopped", 1)
    except ForeseeError as error:
        events.end("failed", str(error), error.status)


def _work(order: Order, events: Events) -> None:
    torch.set_num_threads(order.threads)
    for path in order.plugins:
        load_plugin_file(Path(path))
    train(Settings.read(order.spec), order.root, events)


def _listen(orders: queue.Queue[bytes]) -> None:
    """Passes on lines of standard input; when it ends, asks this process to save and stop."""
    with os.fdopen(os.dup(0), "rb") as stream:
        for line in stream:
            orders.put(line)
    began = time.monotonic()
    while time.monotonic() - began < SAVING_SECONDS:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ASKING_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
