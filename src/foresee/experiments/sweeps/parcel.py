"""The files of a run as bytes, for machines that share no file system.

A parcel is a mapping from the names of a run's files to their contents. It is taken so that it can be continued from
at whatever moment that happens: first the state, then the reports, which are then at least as long as the state says.
It is unpacked the other way round, each file atomically, so that a run directory is whole at every moment; and the file
that says that a run is finished comes last.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from foresee.core import files

CHECKPOINT = "checkpoint/latest.safetensors"
MODEL = "model.safetensors"
FINISHED = "rows.jsonl"
REPORTS = ("metrics.jsonl", "timing.jsonl")

Parcel = Mapping[str, bytes]


def pack(directory: Path) -> dict[str, bytes]:
    """The files of a run that are there now."""
    others = sorted(path.name for path in directory.glob("*") if path.is_file() and _belongs(path.name))
    first = (CHECKPOINT, MODEL, FINISHED)
    names = [*first, *(name for name in others if name not in (*first, *REPORTS)), *REPORTS]
    parcel: dict[str, bytes] = {}
    for name in names:
        try:
            parcel[name] = (directory / name).read_bytes()
        except FileNotFoundError:
            continue
    return parcel


def unpack(parcel: Parcel, directory: Path) -> None:
    """Writes a parcel into a run's directory, over an older state of the same run. Names that no file of a run can have
    are ignored. Raises ``ForeseeError`` where the disk is full.
    """
    begin, end = ("env.json", "spec.json", *REPORTS, CHECKPOINT, MODEL), (FINISHED,)
    others = sorted(name for name in parcel if _belongs(name) and name not in (*begin, *end))
    for name in (*begin, *others, *end):
        if name in parcel:
            files.replace_file(directory / name, partial(_write, parcel[name]))
        if name == MODEL and name in parcel:
            # As in training: once the weights are there, the state that led to them is of no use.
            shutil.rmtree(directory / "checkpoint", ignore_errors=True)


def saved_at(directory: Path) -> tuple[int, int]:
    """Changes whenever a run saves a state that is worth sending: a checkpoint, or the weights that it ends with."""
    return _stamp(directory / CHECKPOINT), _stamp(directory / MODEL)


def _belongs(name: str) -> bool:
    """Whether it is the name of a file right in a run's folder, and neither its lock nor half written."""
    return Path(name).name == name and not name.startswith(".") and name != "lock"


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)
