"""Which files a path stands for, what they hold, and their rows one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from foresee.core.errors import RequestError
from foresee.datasets.columnar import dataset_files, dataset_splits, read_arrow, read_parquet
from foresee.datasets.delimited import read_delimited
from foresee.datasets.json_lines import read_json_lines
from foresee.datasets.rows import BadRow, Fields, Row

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
ARROW_SUFFIXES = (".arrow", ".feather")
LARGE = 1 << 20
"""Bytes from which on a file's digest is kept."""
FORMATS = ".jsonl, .json (an object a line), .csv, .tsv (all of them also with .gz), .parquet, .arrow, or a folder"


@dataclass(frozen=True)
class Source:
    """Files of one kind in their order: ``kind`` is a suffix without ``.gz``."""

    files: tuple[Path, ...]
    kind: str

    @property
    def digest(self) -> str:
        """SHA-256 of what the files hold, in hexadecimal; their names do not count. Raises ``RequestError`` where one
        cannot be read."""
        found = hashlib.sha256(f"{self.kind} {len(self.files)}".encode())
        for file in self.files:
            found.update(file.suffix.encode() + _digest(file))
        return found.hexdigest()

    def rows(self, fields: Fields) -> Iterator[tuple[int, Row | BadRow]]:
        """Every row beside the number of its file. Raises ``RequestError`` on what is wrong with a file as a whole."""
        for number, file in enumerate(self.files):
            for row in self._read(file, fields):
                yield number, row

    def _read(self, file: Path, fields: Fields) -> Iterator[Row | BadRow]:
        if self.kind in JSON_SUFFIXES:
            return read_json_lines(file, fields)
        if self.kind in DELIMITERS:
            return read_delimited(file, fields, DELIMITERS[self.kind])
        return read_parquet(file, fields) if self.kind == ".parquet" else read_arrow(file, fields)

    @property
    def unit(self) -> str:
        """What rows are counted in."""
        return "line" if self.kind in JSON_SUFFIXES or self.kind in DELIMITERS else "row"


def _digest(file: Path) -> bytes:
    try:
        stat = file.stat()
        # A large file is read once a process, unless it was written to in between.
        return (_digest_of if stat.st_size < LARGE else _kept_digest)(file, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise RequestError(f"{file}: cannot be read: {error.strerror}") from None


def _digest_of(file: Path, written: int, size: int) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


_kept_digest = lru_cache(maxsize=64)(_digest_of)


def source_of(path: str) -> Source:
    """The files behind a path: the file itself, or those of a folder that ``datasets`` saved. Of a folder with several
    splits it is the one named train, or the only one.

    Raises ``RequestError`` where there is none, or its format is not known.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        splits = dataset_splits(place)
        if not splits:
            return Source(tuple(dataset_files(place)), ".arrow")
        if "train" not in splits and len(splits) > 1:
            raise RequestError(
                f"{path} holds the splits {', '.join(splits)} and none is named train; give one, as in "
                f"{place / splits[0]}"
            )
        return Source(tuple(dataset_files(place / ("train" if "train" in splits else splits[0]))), ".arrow")
    if not place.is_file():
        raise RequestError(f"{path}: no such file or folder")
    kind = place.suffixes[-2] if place.suffix == ".gz" and len(place.suffixes) > 1 else place.suffix
    kind = kind.lower()
    if kind not in (*JSON_SUFFIXES, *DELIMITERS, ".parquet", *ARROW_SUFFIXES):
        raise RequestError(f"{path}: the format is told by the end of the name, which must be one of {FORMATS}")
    if place.suffix == ".gz" and kind not in (*JSON_SUFFIXES, *DELIMITERS):
        raise RequestError(f"{path}: {kind} files are compressed within; decompress it first")
    return Source((place,), kind)


def held_out_split_of(path: str) -> str | None:
    """The folder of the split named test beside that named train in a folder with several, else None."""
    place = Path(path).expanduser()
    if not place.is_dir() or not {"train", "test"} <= set(dataset_splits(place)):
        return None
    return str(Path(path) / "test")
