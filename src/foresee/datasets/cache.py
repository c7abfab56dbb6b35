"""The cache: folders of arrays by what they were made from, whole or absent.

It is ``$FORESEE_CACHE``, or else the user's cache folder. Anything in it may be deleted at any time; it is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foresee.core import files
from foresee.core.files import cache_folder

FORMAT = 1
"""Of the arrays in it: another number makes them all anew."""

META = "meta.json"


def key_of(*parts: Any) -> str:
    """32 hexadecimal characters of JSON values that decide a folder's content."""
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()[:32]


def cached(kind: str, key: str, build: Callable[[Path], dict[str, Any]], whole: Callable[[Path], bool]) -> Path:
    """The folder for ``key``, built where it is not there yet or is not ``whole`` (cut off, or altered).

    ``build`` writes files into an empty folder and returns what ``meta.json`` will hold. A second process waits for
    the first. Raises what ``build`` raises, and ``ForeseeError`` where the disk is full; nothing is left behind then.
    """
    folder = cache_folder() / kind / key
    if whole(folder):
        return folder
    with files.explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f"{key}.lock")), files.explained(folder):
        if whole(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        beside = folder.with_name(f"{key}{files.TEMPORARY}")
        shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed: this one holds the lock
        beside.mkdir()
        try:
            files.write_json(beside / META, build(beside))
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits until no other process builds the same folder; the kernel lets go of the lock when its holder dies."""
    with files.explained(lock):
        opened = lock.open("w")
    with opened as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def meta_of(folder: Path) -> dict[str, Any] | None:
    """What ``build`` returned, or None where the folder is not there or its ``meta.json`` is damaged."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) else None
