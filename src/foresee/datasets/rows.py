"""Rows of text files, compressed or not, one at a time: JSON, CSV, TSV and the text form of tasks.

A reader yields each row's number, counted from 1, and the row by the names of its fields, or a ``BadRowError``.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from foresee.core.errors import RequestError, require_package
from foresee.datasets.fields import BadRowError, Fields, Record

if TYPE_CHECKING:
    import _csv

LONGEST_LINE = 1 << 26
"""Bytes of a line above which it is taken for a file without line ends: a guard for memory."""

NAME_FIELDS = "name the two fields, as in prompt=question,answer=reply (or: --prompt question --answer reply)"
"""What to do where a field is not there."""

WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

QUOTED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
"""A field in quotes with doubled ones inside, as only a writer of CSV makes it."""

# Numbers stay as they are written, so that 1.10 is not read as 1.1 and no whole number is too long.
DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def _open(path: Path) -> IO[bytes]:
    """Opens a file, decompressed where the end of its name says so."""
    ending = path.suffix.lower()
    if ending == ".zst":
        require_package("pyarrow", "data", path)
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return {".gz": gzip.open, ".bz2": bz2.open}.get(ending, open)(path, "rb")  # type: ignore[no-any-return, operator]  # each of them gives bytes


def read_lines(path: Path) -> Iterator[bytes]:
    """Reads the lines of a file with their ends, a byte order mark left out; .gz, .bz2 and .zst are decompressed.

    Raises ``RequestError`` where the file cannot be read, is cut off or is UTF-16, and on a line of 64 MB or more.
    """
    at = 0
    try:
        with _open(path) as file:
            while line := file.readline(LONGEST_LINE):
                at += 1
                if at == 1 and line.startswith(WIDE_MARKS):
                    raise RequestError(f"{path}: the file is UTF-16 or UTF-32 text; save it as UTF-8")
                if len(line) == LONGEST_LINE:
                    raise RequestError(f"{path}, line {at}: the line is longer than 64 MB; are its line ends missing?")
                yield line.removeprefix(codecs.BOM_UTF8) if at == 1 else line
    except RequestError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise RequestError(f"{path}: the compressed file is damaged after line {at}: {error}") from None
    except OSError as error:
        what = "cannot be read" if error.errno else f"the compressed file is damaged after line {at}"
        raise RequestError(f"{path}: {what}: {error.strerror or error}") from None


def read_json(path: Path) -> Iterator[tuple[int, Record]]:
    """Reads an object a line, a list of objects, or objects over several lines, one after the other. A row's number is
    the line where it begins; lines of white space alone are passed over, but counted. Raises as ``read_lines``."""
    lines, first = enumerate(read_lines(path), 1), True
    for number, line in lines:
        if line.isspace():
            continue
        if (first and line.lstrip()[:1] == b"[") or line.strip() == b"{":
            yield from _read_values(number, line + b"".join(more for _, more in lines))
        else:
            yield number, _read_object(line)
        first = False


def _read_values(first: int, raw: bytes) -> Iterator[tuple[int, Record]]:
    """The values of a list, or one after the other, that begin on line ``first``."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        why = f"the byte 0x{raw[error.start]:02X} is not UTF-8 text"
        yield first + raw.count(b"\n", 0, error.start), BadRowError("undecodable bytes", why)
        return
    space, at, counted, number = re.compile(r"[\s,]*"), 0, 0, first
    in_list = text.lstrip().startswith("[")
    at = text.index("[") + 1 if in_list else 0
    while True:
        at = space.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        number, counted = number + text.count("\n", counted, at), at
        if in_list and text[at : at + 1] == "]":
            at, in_list = at + 1, False
            continue
        if at == len(text):
            if in_list:
                yield number, BadRowError("not JSON", "the list does not end")
            return
        try:
            row, at = DECODER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            why = (
                f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply to be read"
            )
            yield number, BadRowError("not JSON", f"{why}; nothing after it is read")
            return
        good = isinstance(row, dict)
        yield number, row if good else BadRowError("not an object", "a value of the list is not a JSON object")


def read_text(path: Path, fields: Fields) -> Iterator[tuple[int, Record]]:
    """Reads examples in the text form of this package's tasks, ``prompt=answer`` a line. Raises as ``read_lines``."""
    for number, line in enumerate(read_lines(path), 1):
        prompt, equals, response = line.strip().partition(b"=")
        if equals:
            yield number, {fields.prompt: prompt + equals, fields.answer: response}
        elif prompt:
            yield number, BadRowError("no =", "there is no '=' where the prompt ends; a line reads prompt=answer")


def _read_object(line: bytes) -> Record:
    try:
        row = DECODER.decode(line.decode().strip())
    except UnicodeDecodeError as error:
        why = f"column {error.start + 1}: the byte 0x{line[error.start]:02X} is not UTF-8 text"
        return BadRowError("undecodable bytes", why)
    except json.JSONDecodeError as error:
        return BadRowError("not JSON", f"column {error.colno}: not JSON: {error.msg}")
    except RecursionError:
        return BadRowError("not JSON", "nested too deeply to be read")
    if isinstance(row, dict):
        return row
    why = "not a JSON object; a line reads {...} with a field for each of the two"
    if isinstance(row, list):
        why = "a JSON list, but each line must be one object; `jq -c .[] FILE` writes a list's objects so"
    return BadRowError("not an object", why)


def read_delimited(path: Path, fields: Fields, delimiter: str) -> Iterator[tuple[int, Record]]:
    """Reads the rows after the header. A row's number is the line it starts on, since a quoted field may hold line
    ends; blank lines are passed over. Between tabs a quotation mark is text, as tab-separated values are defined,
    unless the header is quoted. Raises ``RequestError`` where the header lacks a field or has it twice."""
    reader, bare = open_delimited(path, delimiter)
    header: list[str] = []
    while True:
        number, limit = reader.line_num + 1, csv.field_size_limit(LONGEST_LINE)
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not header:
                raise RequestError(f"{path}, line {number}: the header cannot be read: {error}") from None
            reach = f" (up to line {reader.line_num})" if reader.line_num > number else ""
            yield number, BadRowError("not CSV", f"not CSV: {error}{reach}; is a quote not closed?")
            continue
        finally:
            csv.field_size_limit(limit)  # it is the process's, not the reader's
        if values in ([], [""]):
            continue
        if not header:
            header = values
            check_names(f"{path}: the header has", "field", header, fields.names(header))
        elif bare and any(map(QUOTED.fullmatch, values)):
            why = "a field is written in CSV's quotes, which tab-separated values do not have; save the file as .csv"
            yield number, BadRowError("quoted field", why)
        elif len(values) == len(header):
            yield number, dict(zip(header, values, strict=True))
        else:
            why = f"the row has {len(values)} fields, but the header has {len(header)}; is a delimiter not quoted?"
            yield number, BadRowError("wrong number of fields", why)


def open_delimited(path: Path, delimiter: str) -> tuple[_csv.Reader, bool]:
    """A reader of the rows, header included, and whether quotation marks are text. Where the header does not hold the
    delimiter, fields lie between semicolons, as spreadsheets write them in half of Europe, tabs, bars or commas."""
    # Bytes that are no UTF-8 are kept apart, so that only the rows that hold them are bad.
    text: Iterator[str] = (line.decode("utf-8", "surrogateescape") for line in read_lines(path))
    first = next(text, "")
    delimiter = next((mark for mark in (delimiter, *";\t|,") if mark in first), delimiter)
    bare = delimiter == "\t" and not first.startswith('"')
    lines = chain([first], text)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL
    return csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting), bare


def check_names(place: str, what: str, names: list[str], fields: Sequence[str]) -> None:
    """Raises ``RequestError`` unless a file has each of the fields once."""
    for field in fields:
        if names.count(field) != 1:
            wrong = "more than one" if field in names else "no"
            raise RequestError(
                f"{place} {wrong} {what} {field!r}; its {what}s are {', '.join(map(repr, names))}; {NAME_FIELDS}"
            )
