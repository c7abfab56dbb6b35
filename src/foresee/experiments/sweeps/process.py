"""A worker process as the process that started it sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from foresee.experiments.sweeps.worker import Order

WORKER = (sys.executable, "-m", "foresee.experiments.sweeps")

Event = dict[str, Any]


class WorkerProcess:
    """A process that trains one run after the other. Its events go to ``sink``, from a thread of their own: those of
    ``worker.py``, ``said`` with a line of its standard error, and last of all ``gone`` with its exit status."""

    def __init__(
        self, threads: int, sink: Callable[[Event], None], *, command: Sequence[str] = WORKER,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """``environment`` is added to this process's own."""
        self._sink = sink
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {}), "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A Ctrl-C is for the process that leads, which passes it on.
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        self._input, self._input_lock = self._process.stdin, threading.Lock()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def give(self, order: Order) -> None:
        """Gives it a run to train; the event ``end`` says when the next may be given."""
        line = (json.dumps(dataclasses.asdict(order)) + "\n").encode()
        # Where it died already, ``gone`` says so.
        with self._input_lock, contextlib.suppress(BrokenPipeError):
            if not self._input.closed:
                self._input.write(line)
                self._input.flush()

    def stop(self) -> None:
        """Asks it to save and end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once and waits for that."""
        self._process.kill()
        self._process.wait()
        self._follower.join()

    def _follow(self) -> None:
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        errors = threading.Thread(target=self._pass_on_errors, args=(process.stderr,), daemon=True)
        errors.start()
        with process.stdout as stream:
            for line in stream:
                event = _read(line)
                if event is not None:
                    self._sink(event)
        status = process.wait()
        errors.join()
        with self._input_lock, contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._sink({"event": "gone", "status": status})

    def _pass_on_errors(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._sink({"event": "said", "text": line.decode(errors="replace").rstrip()})


def _read(line: bytes) -> Event | None:
    """An event, or None where a killed process left half a line."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def was_killed(status: int) -> bool:
    """Whether an exit status says that a signal ended the process, rather than the process itself."""
    return status < 0


def why(status: int) -> str:
    """What an exit status says, for people."""
    if status == -signal.SIGKILL:
        return "its process was killed (SIGKILL), as the system does where memory runs out"
    if was_killed(status):
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process ended with status {status}"
