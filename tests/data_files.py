"""Small data sets of prompts and responses, written to disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foresee.core.seeds import stream
from foresee.core.spec import resolve
from foresee.datasets.sources import Row, read_rows
from foresee.tasks import tasks
from foresee.tasks.data import Data


def sums(n: int, most: int = 100, seed: int = 0) -> list[tuple[str, str]]:
    """``n`` different sums of two numbers below ``most``, in random order."""
    chosen = stream("sums", seed).permutation(most * most)[:n].tolist()
    return [(f"{pair // most}+{pair % most}=", str(pair // most + pair % most)) for pair in chosen]


def write_jsonl(path: Path, rows: list[tuple[Any, Any]], prompt: str = "prompt", response: str = "response") -> Path:
    """A JSON object a line."""
    path.write_text("".join(json.dumps({prompt: one, response: other}) + "\n" for one, other in rows))
    return path


def data(path: Path, **options: Any) -> Data:
    """The task of a file."""
    given = "".join(f",{key}={str(value).lower() if value is True else value}" for key, value in options.items())
    built = resolve(tasks, f"data:{path}{given}").build()
    assert isinstance(built, Data)
    return built


def rows_of(task: Data) -> list[tuple[str, str]]:
    """The task's rows as they are read, in the order of the file; asserts that they are kept so too."""
    stored = task.stored
    held = {stored.place(row) for row in range(len(stored))}
    places: list[tuple[int, int]] = []
    found: list[tuple[str, str]] = []
    for row in read_rows(stored.files, task.fields):
        if isinstance(row, Row) and row[:2] in held:
            places.append(row[:2])
            found.append((row.prompt, row.response))
    kept = [task.coding.encode(*pair) for pair in found]
    assert kept == [stored.pair(row) for row in range(len(stored))]
    assert places == [stored.place(row) for row in range(len(stored))]
    return found
