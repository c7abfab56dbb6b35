"""Reading and writing the small files of a run so that nothing is ever half written or silently misread."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from foresee.core.errors import ForeseeError, RequestError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = ".part"
"""How the names of files end that are still being written."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LARGE = 1 << 20
"""Bytes from which on a file's digest is remembered."""
SETTLED_SECONDS = 2.0
"""A file that changed less than this long ago is hashed anew each time: a second change might leave its times equal."""
_hashes: dict[str, list[Any]] = {}
NO_LOCKS = "FORESEE_NO_LOCK"
"""The environment variable that ``--no-lock`` sets: nothing is locked, in child processes neither."""


def cache_folder() -> Path:
    """``$FORESEE_CACHE``, or the folder ``foresee`` where this platform keeps caches; all in it can be made again."""
    chosen = os.environ.get("FORESEE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    try:
        from platformdirs import user_cache_path
    except ImportError:  # training does without
        return Path.home() / ".cache" / "foresee"
    return user_cache_path("foresee")


def damaged(path: Path, why: object) -> RequestError:
    """What to say of a file of a run that cannot be used."""
    return RequestError(f"{path} is damaged: {why}; delete {path.parent} and train again")


def hash_file(file: Path) -> str:
    """The SHA-256 of a file; a large one is read once for as long as neither its size nor its times change. Raises
    ``RequestError`` where it cannot be read."""
    try:
        status, key = file.stat(), str(file.resolve())
        large = status.st_size >= LARGE
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        known = (_hashes.get(key) or _stored_hashes().get(key)) if large else None
        if isinstance(known, list) and known[:-1] == stamp:
            return str(known[-1])
        with file.open("rb") as opened:
            if opened.read(len(LFS_POINTER)) == LFS_POINTER:
                raise RequestError(f"{file} is a Git LFS pointer, not the file itself; `git lfs pull` fetches that")
            opened.seek(0)
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"{file}: cannot be read: {error.strerror}") from None
    if large and time.time_ns() - max(stamp[1], stamp[2]) > SETTLED_SECONDS * 1e9:
        _hashes[key] = [*stamp, digest]
        with suppress(ForeseeError):  # a cache that cannot be written costs time alone
            write_json(_store(), _stored_hashes() | _hashes)
    return digest


def _store() -> Path:
    return cache_folder() / "checkpoint-digests.json"


def _stored_hashes() -> dict[str, Any]:
    try:
        stored = json.loads(_store().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


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


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file through a temporary one beside it: ``path`` holds the old bytes or the new, never a part.

    A link stays, and the file behind it is replaced. What is no file, a pipe or a device, is written into. A new file
    may be read by whom the umask lets; a replaced one keeps its permissions.
    """
    with explained(path):
        if path.exists() and not (path.is_file() and path.absolute().parts[1] not in ("dev", "proc")):
            with tempfile.TemporaryDirectory() as folder:
                write(made := Path(folder) / path.name)
                with made.open("rb") as source, _open_device(path) as target:
                    shutil.copyfileobj(source, target)
            return
        path = path.resolve() if path.is_symlink() else path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
        try:
            temporary.touch(exist_ok=False)
            if path.exists():
                shutil.copymode(path, temporary)
            write(temporary)
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _open_device(path: Path) -> IO[bytes]:
    """Opens what is no file for writing; standard output and error as they are open, at the place where they stand."""
    own = [number for number in (1, 2) if os.path.samestat(path.stat(), os.fstat(number))]
    return os.fdopen(os.dup(own[0]), "wb") if own else path.open("ab")


def remove_temporaries(directory: Path) -> None:
    """Removes what a killed ``replace_file`` left in a folder that no other process is writing to."""
    for left in directory.glob(f".*{TEMPORARY}"):
        left.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write into, which then takes the name ``folder``: that is whole or absent. Where another
    process was quicker, its folder stays."""
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        written = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{TEMPORARY}")
        written.mkdir()
        try:
            yield written
            if not folder.is_dir() or not any(folder.iterdir()):
                with suppress(FileNotFoundError):
                    folder.rmdir()
                written.rename(folder)
        finally:
            shutil.rmtree(written, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replaces ``path`` by ``text``, atomically."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


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
        raise damaged(path, error) from None


def append_json_line(path: Path, value: Mapping[str, Any]) -> int:
    """Appends a JSON object as a line and waits until the disk has it; the file's size in bytes after it."""
    with explained(path), path.open("ab") as handle:
        handle.write((json.dumps(value, allow_nan=False) + "\n").encode())
        handle.flush()
        os.fsync(handle.fileno())
        return handle.tell()


def truncate(path: Path, size: int) -> None:
    """Cuts a file, if it exists, down to its first ``size`` bytes. Raises ``RequestError`` where it is shorter."""
    if not path.exists():
        if size:
            raise RequestError(
                f"{path} is missing, though the checkpoint beside it speaks of it; delete {path.parent} and train again"
            )
        return
    if path.stat().st_size < size:
        raise damaged(path, "it is shorter than the checkpoint beside it says")
    with explained(path):
        os.truncate(path, size)


def write_tensors(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Replaces ``path`` by a safetensors file; ``note`` (JSON values) travels in its header, with a digest of it all.

    The same tensors and note give the same bytes.
    """
    import safetensors.torch

    stored: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        held = tensor.detach().cpu().contiguous()
        place = held.untyped_storage().data_ptr()
        # safetensors refuses tensors that share memory, as those of a layer that a model uses twice do.
        stored[name] = held.clone() if place in places else held
        places.add(place)
    # One key of metadata: safetensors writes several in no fixed order.
    header = {"note": json.dumps({**note, "digest": _digest(stored, note)})}
    # save() leaves the write to us, so that a full disk is an OSError like any other.
    payload = safetensors.torch.save(stored, header)
    replace_file(path, lambda temporary: temporary.write_bytes(payload))


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of ``write_tensors``. Raises ``RequestError`` where the file is missing or damaged."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            note = json.loads((opened.metadata() or {}).get("note", "{}"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no mapping
    except FileNotFoundError:
        raise RequestError(f"{path} is missing; delete {path.parent} and train again") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise damaged(path, error) from None
    if not isinstance(note, dict) or note.pop("digest", None) != _digest(tensors, note):
        raise damaged(path, "its contents do not agree with the digest in its header")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, note


def _digest(tensors: dict[str, Tensor], note: dict[str, Any]) -> str:
    """Of names, types, shapes, values and note: a safetensors file with a flipped bit would load without complaint."""
    import torch

    found = hashlib.sha256(json.dumps(note, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def lock(file: IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Locks an open file. Raises ``BlockingIOError`` where another process has it and ``wait`` is false, and
    ``RequestError`` where its file system knows no locks."""
    if os.environ.get(NO_LOCKS):
        return
    try:
        import fcntl  # here: a system without it can still read runs

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except (OSError, ImportError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RequestError(
            f"{file.name} cannot be locked, so a second process on the same files would not be noticed ({why}): its "
            "file system knows no locks; choose another place, or --no-lock where you see to it that there is only one"
        ) from None
