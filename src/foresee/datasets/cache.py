"""The cache: folders of flat arrays and a ``meta.json``, by what they were made from, whole or absent.

It is ``$FORESEE_CACHE``, or else the user's cache folder. Anything in it may be deleted at any time; it is made again.
An array is its values alone; the end of its name is their type, as in ``tokens.u2``.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from foresee.core import files

FORMAT = 1
"""Of the arrays in it: another number makes them all anew."""

Array = NDArray[Any]
Rows = NDArray[numpy.int64]


def key_of(*parts: Any) -> str:
    """32 hexadecimal characters of JSON values that decide a folder's content."""
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()[:32]


def append(folder: Path, name: str, values: Array) -> None:
    """Appends values to the array of this name and of their type."""
    with (folder / f"{name}.{values.dtype.str[1:]}").open("ab") as file:
        file.write(values.tobytes())


def map_array(folder: Path, name: str) -> Array:
    """Maps an array, whose values are read from disk as they are looked at."""
    (path,) = folder.glob(f"{name}.*")
    with path.open("rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Rows are read here and there, so that reading ahead would fetch what nobody asks for.
    if sys.platform != "win32":
        held.madvise(mmap.MADV_RANDOM)
    return numpy.frombuffer(held, numpy.dtype(f"<{path.suffix[1:]}"))


def load_or_build(kind: str, key: str, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The folder for ``key`` and what its ``meta.json`` holds, built where it is missing, cut off or altered.

    ``build`` writes arrays into an empty folder and returns the JSON values to keep. A second process waits for the
    first. Raises what ``build`` raises, and ``ForeseeError`` where the disk is full; nothing is left behind then.
    """
    folder = files.cache_folder() / kind / key
    if (meta := _load(folder)) is not None:
        return folder, meta
    with files.explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{key}.lock").open("w") as lock:
            files.lock(lock, wait=True)
            if (meta := _load(folder)) is not None:
                return folder, meta
            for left in (folder, *folder.parent.glob(f".{key}.*{files.TEMPORARY}")):  # cut off, or of a killed process
                shutil.rmtree(left, ignore_errors=True)
            with files.new_folder(folder) as beside:
                meta = build(beside)
                sizes = {path.name: path.stat().st_size for path in beside.iterdir()}
                files.write_json(beside / "meta.json", meta | {"sizes": sizes})
    return folder, meta


def _load(folder: Path) -> dict[str, Any] | None:
    """What ``build`` returned, or None where the folder is not there or not whole."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in meta.pop("sizes").items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return meta if whole else None
