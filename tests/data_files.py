"""Small data sets of prompts and responses, written to disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foresee.core.seeds import stream
from foresee.core.spec import resolve
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
