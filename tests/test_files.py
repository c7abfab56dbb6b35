"""Small files: whole or not at all, the same bytes every time, and no damage that goes unnoticed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file

from foresee.core import files
from foresee.core.errors import ForeseeError, RequestError
from foresee.training.records import ROW, read_lines

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(7.0),
    "none": torch.zeros(0, 4),
    "flag": torch.tensor([True, False]),
}
NOTE = {"step": 3, "seconds": 0.125, "solved": False}
READERS: list[Callable[[Path], Any]] = [
    files.read_json, files.read_tensors, lambda path: read_lines(path, ROW, required=True)
]  # fmt: skip


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_json_and_its_lines_are_read_back_and_appended_to(tmp_path: Path) -> None:
    files.write_json(tmp_path / "deep" / "a.json", {"x": [1, 2.5, None, "ä"]})
    assert files.read_json(tmp_path / "deep" / "a.json") == {"x": [1, 2.5, None, "ä"]}
    path = tmp_path / "a.jsonl"
    files.write_json_lines(path, [{"a": 1}, {"b": "line\nend"}])
    size = files.append_json_line(path, {"c": 3})
    with pytest.raises(ValueError, match="JSON"):  # numbers that JSON lacks are never written
        files.append_json_line(path, {"loss": float("nan")})
    assert size == path.stat().st_size
    assert read_lines(path, ROW) == [{"a": 1}, {"b": "line\nend"}, {"c": 3}]


@pytest.mark.parametrize(("content", "said"), [(b"{", "Expecting"), (b"\xff\xfe", "'utf-8'"), (b"", "Expecting value")])
def test_damaged_json_names_the_file_and_what_to_do(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with refused(f"{path} is damaged: {said}", f"delete {tmp_path} and train again"):
        files.read_json(path)


@pytest.mark.parametrize(("content", "line"), [('{"a": 1}\n{"a": \n', 2), ("3\n", 1), ('{"a": 1}\n\n{"a": 2}\n', 2)])
def test_damaged_lines_are_numbered(tmp_path: Path, content: str, line: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(RequestError, match=rf"a\.jsonl is damaged: line {line}\b"):
        read_lines(path, ROW)


def test_missing_files_are_named_and_a_folder_in_place_of_a_file_is_damage(tmp_path: Path) -> None:
    for read in READERS:
        with refused("missing.txt is missing"):
            read(tmp_path / "missing.txt")
        with refused("is damaged"):
            read(tmp_path)


def test_a_failed_write_keeps_the_old_bytes_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the disk is found full only at the end; other failures say why."""
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def write_half(temporary: Path) -> None:
        temporary.write_text("ne")
        full_disk()

    with pytest.raises(ForeseeError, match=r"the disk is full: .*a\.txt could not be written.*free some") as caught:
        files.replace_file(path, write_half)
    assert caught.value.status == 1
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(ForeseeError, match="the disk is full"):
            files.write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]
    files.write_text(path, "new")
    assert path.read_text() == "new"
    why = r"a\.txt/b\.txt could not be written: (Not a directory|File exists)"
    with pytest.raises(ForeseeError, match=why) as caught:
        files.write_text(path / "b.txt", "x")
    assert caught.value.status == 1


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    def leave(temporary: Path) -> None:
        left.append(temporary)

    left: list[Path] = []
    files.replace_file(tmp_path / "rows.jsonl", leave)
    left[0].write_text("half")  # as if the process had died before the rename
    (tmp_path / ".hidden").write_text("kept")
    files.remove_temporaries(tmp_path)
    assert names(tmp_path) == [".hidden", "rows.jsonl"]


def test_truncate(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    files.truncate(path, 0)
    assert not path.exists()
    with refused("a.jsonl is missing", "delete"):
        files.truncate(path, 1)
    path.write_bytes(b"abc")
    with refused("a.jsonl is damaged: it is shorter"):
        files.truncate(path, 4)
    files.truncate(path, 2)
    assert path.read_bytes() == b"ab"


def test_tensors_are_read_back_and_the_same_ones_give_the_same_bytes(tmp_path: Path) -> None:
    path, given = tmp_path / "a.safetensors", {**TENSORS, "view": TENSORS["weight"].T}
    files.write_tensors(path, given, NOTE)
    tensors, note = files.read_tensors(path)
    assert note == NOTE
    assert tensors.keys() == given.keys()
    for name, tensor in given.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    files.write_tensors(tmp_path / "b", dict(reversed(given.items())), NOTE)
    assert path.read_bytes() == (tmp_path / "b").read_bytes()


def test_a_flipped_bit_anywhere_and_a_cut_of_a_tensors_file_are_noticed(tmp_path: Path) -> None:
    """A note that is not an object is damage, too."""
    path = tmp_path / "a.safetensors"
    files.write_tensors(path, TENSORS, NOTE)
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        for content in (bytes(flipped), whole[:place]) if place % 4 == 0 else (bytes(flipped),):
            path.write_bytes(content)
            with refused("a.safetensors is damaged: "):
                files.read_tensors(path)
    path.write_bytes(whole)
    assert files.read_tensors(path)[1] == NOTE
    for note in ({"note": "[]"}, {"note": "{}"}, {"other": "x"}, {"note": json.dumps(NOTE)}, None):
        save_file({"weight": TENSORS["weight"]}, path, note)
        with refused("is damaged: its contents do not agree with the digest"):
            files.read_tensors(path)
