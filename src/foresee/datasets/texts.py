"""The text of a data set in the cache: every prompt and response in UTF-8, and where each row stands in its file.

``text`` holds the texts one after the other, prompt, response, prompt, response, ...; ``ends`` where each ends;
``numbers`` each row's line or row in its file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy

from foresee.core.errors import RequestError
from foresee.datasets.arrays import Array, ArrayReader, ArrayWriter, mapped
from foresee.datasets.cache import cached, key_of, meta_of
from foresee.datasets.reading import Source
from foresee.datasets.rows import BadRow, Fields

AT_ONCE = 1 << 20
"""Bytes of text held at a time."""

BAD_SHOWN = 100
"""Bad rows that are kept in full; the others are only counted."""

OFFSET = numpy.dtype("<u8")


@dataclass(frozen=True)
class Bad:
    """Bad rows: the first of them, and how many there are of each kind."""

    first: tuple[BadRow, ...]
    counts: dict[str, int]

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Block:
    """Whole rows: ``text`` [bytes] uint8 and ``ends`` [2 * rows] of the texts in it."""

    first_row: int
    text: Array
    ends: Array


@dataclass(frozen=True)
class Texts:
    """A data set's rows as text. ``key`` names their content."""

    folder: Path
    source: Source
    key: str
    bad: Bad
    file_starts: tuple[int, ...]
    """The first row of each file."""

    @cached_property
    def ends(self) -> Array:
        """[2 * rows] where each text ends."""
        return mapped(self.folder / "ends.npy")

    @cached_property
    def numbers(self) -> Array:
        """[rows] the line or row of each row in its file, from 1."""
        return mapped(self.folder / "numbers.npy")

    def __len__(self) -> int:
        return len(self.ends) // 2

    def place(self, row: int) -> tuple[str, int]:
        """The file of a row and its number there."""
        file = self.source.files[bisect_right(self.file_starts, row) - 1]
        return str(file), int(self.numbers[row])

    def pair(self, row: int) -> tuple[str, str]:
        """Prompt and response of a row."""
        start = int(self.ends[2 * row - 1]) if row else 0
        middle, end = (int(place) for place in self.ends[2 * row : 2 * row + 2])
        text = mapped(self.folder / "text.npy")[start:end].tobytes()
        return text[: middle - start].decode(), text[middle - start :].decode()

    def blocks(self) -> Iterator[Block]:
        """All rows in order, a megabyte at a time."""
        with ArrayReader(self.folder / "text.npy") as text, ArrayReader(self.folder / "ends.npy") as ends:
            row = start = 0
            while row < len(self):
                # Up to as many rows as texts of a few bytes would make; then as many of them as hold few enough bytes.
                places = ends.part(2 * row, min(2 * row + AT_ONCE // 16, len(ends))).astype(numpy.int64)
                taken = max(1, int(numpy.searchsorted(places[1::2], start + AT_ONCE, "right")))
                places = places[: 2 * taken]
                yield Block(row, text.part(start, int(places[-1])), places - start)
                row, start = row + taken, int(places[-1])


def texts_of(source: Source, fields: Fields, skip_bad: bool) -> Texts:
    """The texts of a source, read into the cache where they are not there yet.

    Raises ``RequestError`` on the first bad row unless ``skip_bad``, where no row is good, and on what is wrong with a
    file as a whole.
    """
    key = key_of("texts", source.digest, fields.prompt, fields.response)
    folder = cached("texts", key, lambda place: _build(place, source, fields, skip_bad), _whole)
    meta = meta_of(folder)
    assert meta is not None
    first = tuple(BadRow(**{**row, "file": str(source.files[row["file"]])}) for row in meta["bad"])
    if first and not skip_bad:
        raise refusal(first[0])
    return Texts(folder, source, key, Bad(first, meta["bad_counts"]), tuple(meta["file_starts"]))


def refusal(bad: BadRow) -> RequestError:
    """What is said of the first bad row."""
    return RequestError(f"{bad}; mend the row, or leave bad rows out with skip_bad=true")


def _build(folder: Path, source: Source, fields: Fields, skip_bad: bool) -> dict[str, Any]:
    bad: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    file_starts: list[int] = []
    with (
        ArrayWriter(folder / "text.npy", numpy.dtype("<u1")) as text,
        ArrayWriter(folder / "ends.npy", OFFSET) as ends,
        ArrayWriter(folder / "numbers.npy", OFFSET) as numbers,
    ):
        pieces: list[bytes] = []
        places: list[int] = []
        lines: list[int] = []
        at, flushed = 0, 0

        def flush() -> None:
            text.write(numpy.frombuffer(b"".join(pieces), numpy.uint8))
            ends.write(numpy.array(places, OFFSET))
            numbers.write(numpy.array(lines, OFFSET))
            for held in (pieces, places, lines):
                held.clear()

        for number, row in source.rows(fields):
            while len(file_starts) <= number:
                file_starts.append(len(numbers) + len(lines))
            if isinstance(row, BadRow):
                if not skip_bad:
                    raise refusal(row)
                if len(bad) < BAD_SHOWN:
                    bad.append(asdict(row) | {"file": number})
                counts[row.kind] += 1
                continue
            pieces += (row.prompt, row.response)
            middle = at + len(row.prompt)
            at = middle + len(row.response)
            places += (middle, at)
            lines.append(row.number)
            if at - flushed > AT_ONCE or len(lines) > AT_ONCE // 32:
                flush()
                flushed = at
        flush()
        if not len(numbers):
            what = f"all {counts.total()} rows are bad; the first: {bad[0]['reason']}" if bad else "it holds no rows"
            raise RequestError(f"{source.files[0]}: {what}")
        rows, size = len(numbers), len(text)
    return {"rows": rows, "bytes": size, "file_starts": file_starts, "bad": bad, "bad_counts": dict(counts)}


def _whole(folder: Path) -> bool:
    meta = meta_of(folder)
    if meta is None:
        return False
    try:
        lengths = [len(mapped(folder / f"{name}.npy")) for name in ("text", "ends", "numbers")]
        return lengths == [meta["bytes"], 2 * meta["rows"], meta["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
