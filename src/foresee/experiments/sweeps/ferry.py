"""Trains a run on another machine of a cluster: a worker process in a folder of its own, whose files are sent back.

One of these lives on the other machine (as a Ray actor, ``on_ray.py``). It starts the same worker process that a local
sweep starts, and hands over its events, and a parcel of the run's files (``parcel.py``) whenever a new state was saved
and at the end. Nothing needs to be shared between the machines; whatever it has sent can be continued from anywhere.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foresee.experiments.sweeps.parcel import Parcel, pack, saved_at, unpack
from foresee.experiments.sweeps.process import WORKER, Event, WorkerProcess, was_killed, why
from foresee.experiments.sweeps.worker import Order
from foresee.training.environment import environment
from foresee.training.guard import in_use, locked

Told = tuple[list[Event], dict[str, bytes]]
"""Events, and the run's files where there is something new to keep."""


PREFIX = "foresee-sweep-"


def remove_left() -> None:
    """Removes the folders on this machine whose ferry was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if (folder / "lock").exists() and not in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


class Ferry:
    """A worker process on this machine, and the folder that it trains in."""

    def __init__(
        self, threads: int, plugins: Mapping[str, bytes], send_seconds: float, command: Sequence[str] | None = None
    ) -> None:
        """Runs will have ``threads``. ``plugins`` are the contents of plug-in files by name; a new state of a run is
        handed over no sooner than ``send_seconds`` after the last. ``command`` starts the worker."""
        remove_left()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(locked(self._folder))
        self._plugins = [self._folder / name for name in plugins]
        for path, content in zip(self._plugins, plugins.values(), strict=True):
            path.write_bytes(content)
        self._heard: queue.Queue[Event] = queue.Queue()
        self._threads, self._send_seconds = threads, send_seconds
        self._process = WorkerProcess(threads, self._heard.put, command=command or WORKER)
        self._last_words = ""

    def begin(self, spec: Mapping[str, Any], digest: str, parcel: Parcel) -> dict[str, Any]:
        """Trains the run of these fields of a ``Settings`` from the state in ``parcel``; where that is."""
        self._directory = self._folder / "runs" / digest
        unpack(parcel, self._directory)
        self._sent_at, self._sent = time.monotonic(), saved_at(self._directory)
        plugins = [str(path) for path in self._plugins]
        self._process.give(Order(dict(spec), str(self._directory.parent), self._threads, plugins))
        return self._where()

    def listen(self, seconds: float) -> Told:
        """What happened since it was last asked; waits up to ``seconds`` for something to happen.

        The last event is ``end``, or else ``gone`` with ``why`` and ``again`` (``supervise.py``).
        """
        heard: list[Event] = []
        try:
            heard.append(self._heard.get(timeout=seconds))
            while True:
                heard.append(self._heard.get_nowait())
        except queue.Empty:
            pass
        for number, event in enumerate(heard):
            if event["event"] == "said":
                self._last_words = event["text"]
            elif event["event"] == "end":
                parcel = pack(self._directory)
                shutil.rmtree(self._directory)
                return heard[: number + 1], parcel
            elif event["event"] == "gone":
                killed = was_killed(event["status"])
                words = "" if killed or not self._last_words else f": {self._last_words}"
                gone = {"event": "gone", "why": why(event["status"]) + words, "again": killed}
                return [*heard[:number], gone], pack(self._directory)
        return heard, self._new_state()

    def stop(self) -> None:
        """Asks the worker to save and end; what it saves comes with its last event."""
        self._process.stop()

    def close(self) -> None:
        """Ends the worker at once and removes its folder."""
        self._process.kill()
        self._lock.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _new_state(self) -> dict[str, bytes]:
        saved = saved_at(self._directory)
        if saved == self._sent or time.monotonic() - self._sent_at < self._send_seconds:
            return {}
        self._sent_at, self._sent = time.monotonic(), saved
        return pack(self._directory)

    def _where(self) -> dict[str, Any]:
        """The machine's name, the two processes, and the digest of the code that they run."""
        return {"host": socket.gethostname(), "pid": self._process.pid, "ferry": os.getpid(),
                "code": environment()["code"]}  # fmt: skip
