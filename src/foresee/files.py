"""Reading and writing the small files of a run so that nothing is ever half written or silently misread."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from foresee.errors import ForeseeError, RequestError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns a failed write into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ForeseeError(
                f"the disk is full: {path} could not be written; what was saved before is intact, "
                f"so free some space and run the same command to continue"
            ) from error
        raise ForeseeError(f"{path} could not be written: {error.strerror or error}") from error


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a file through a temporary one beside it, so that ``path`` holds the old bytes or the new, never a part."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces ``path`` by ``text``, atomically."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))  # type: ignore[arg-type, return-value]


def write_json(path: Path, value: Any) -> None:
    """Replaces ``path`` by indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_json_lines(path: Path, values: list[dict[str, Any]]) -> None:
    """Replaces ``path`` by a JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values))


def read_json(path: Path) -> Any:
    """Raises ``RequestError`` naming the file where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{path} is missing") from None
    except (ValueError, OSError) as error:
        raise RequestError(f"{path} is damaged: {error}") from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, none where it is missing. Raises ``RequestError`` with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (ValueError, OSError) as error:
        raise RequestError(f"{path} is damaged: {error}") from None
    values = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise RequestError(f"{path}, line {number} is damaged: {error}") from None
        if not isinstance(value, dict):
            raise RequestError(f"{path}, line {number} is damaged: expected a JSON object")
        values.append(value)
    return values


def append_json_line(path: Path, value: dict[str, Any]) -> int:
    """Appends a JSON object as a line; the file's size in bytes after it."""
    with explained(path), path.open("ab") as handle:
        handle.write((json.dumps(value, allow_nan=False) + "\n").encode())
        return handle.tell()


def truncate(path: Path, size: int) -> None:
    """Cuts a file, if it exists, down to its first ``size`` bytes. Raises ``RequestError`` where it is shorter."""
    if not path.exists():
        if size:
            raise RequestError(f"{path} is missing, though the checkpoint beside it speaks of it")
        return
    if path.stat().st_size < size:
        raise RequestError(f"{path} is damaged: shorter than the checkpoint beside it says")
    with explained(path):
        os.truncate(path, size)


def write_tensors(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Replaces ``path`` by a safetensors file; ``note`` (JSON values) travels in its header."""
    # serialize() leaves the write to us, so that a full disk is an OSError like any other.
    payload = safetensors.torch.save(
        {name: tensor.detach().contiguous() for name, tensor in tensors.items()}, {"note": json.dumps(note)}
    )
    replace_file(path, lambda temporary: temporary.write_bytes(payload))  # type: ignore[arg-type, return-value]


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of ``write_tensors``. Raises ``RequestError`` where the file is missing or damaged."""
    try:
        with safetensors.safe_open(path, framework="pt", device=device) as opened:
            note = json.loads((opened.metadata() or {}).get("note", "{}"))
            return {name: opened.get_tensor(name) for name in opened.keys()}, note  # noqa: SIM118
    except FileNotFoundError:
        raise RequestError(f"{path} is missing") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise RequestError(f"{path} is damaged: {error}") from None
