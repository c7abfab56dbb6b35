"""What keeps a run whole: signals that wait for a step's end, and a lock on its folder."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from foresee.core import files
from foresee.core.errors import RequestError


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within it, Ctrl-C and SIGTERM set a flag that the yielded function reads; a second Ctrl-C interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may handle signals; elsewhere whoever owns it decides.
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class InUseError(RequestError):
    """Another process has a run's folder."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps a second process out of a run's directory; the kernel lets go of the lock when its holder dies. Raises
    ``InUseError`` where another has it."""
    with files.explained(directory / "lock"):
        lock = (directory / "lock").open("w")
    with lock as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(
                f"{directory} is being run by another process; wait for it, or use another --runs folder"
            ) from None
        yield


def in_use(directory: Path) -> bool:
    """Whether a process works in a run's directory now."""
    try:
        with (directory / "lock").open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
