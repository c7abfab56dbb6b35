"""Locks on open files, which the operating system lets go of when their holder dies."""

from __future__ import annotations

import importlib
import os
import sys
import time
from typing import IO, Any

from foresee.core.errors import RequestError

WITHOUT = "FORESEE_NO_LOCK"
"""The environment variable that ``--no-lock`` sets: nothing is locked, in child processes neither."""

NAP = 0.2


def lock(file: IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Locks an open file. Raises ``BlockingIOError`` where another process has it and ``wait`` is false, and
    ``RequestError`` where its file system knows no locks."""
    if os.environ.get(WITHOUT):
        return
    try:
        _lock(file, shared, wait)
    except BlockingIOError:
        raise
    except (OSError, ImportError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RequestError(
            f"{file.name} cannot be locked, so a second process on the same files would not be noticed ({why}): its "
            "file system knows no locks; choose another place, or --no-lock where you see to it that there is only one"
        ) from None


def _lock(file: IO[Any], shared: bool, wait: bool) -> None:
    if sys.platform == "win32":
        msvcrt = importlib.import_module("msvcrt")
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return
            except PermissionError as error:  # how it says that another has it
                if not wait:
                    raise BlockingIOError(error.errno, error.strerror) from None
                time.sleep(NAP)
    import fcntl

    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
