"""Rows of text files, compressed or not, one at a time: JSON lines, CSV and TSV.

A reader yields each row's number, counted from 1, and the row by the names of its fields, or a ``BadRowError``.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from foresee.core.errors import RequestError

LONGEST_LINE = 1 << 26
"""Bytes of a line above which it is taken for a file without line ends: a guard for memory."""

NAME_FIELDS = "name the two fields, as in prompt=question,answer=reply (diagnose: --prompt question --answer reply)"
"""What to do where a field is not there."""

WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

QUOTED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
"""A field in quotes with doubled ones inside, as only a writer of CSV makes it."""

# Numbers stay as they are written, so that 1.10 is not read as 1.1 and no whole number is too long.
DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


class BadRowError(ValueError):
    """Why a row is bad: ``kind`` is the same words for every row that is bad in that way, ``reason`` is in full."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


Record = dict[str, Any] | BadRowError


def text_of(row: Record, field: str) -> str:
    """Reads the text of a field: strings as they are, numbers as they are written. Raises ``BadRowError``."""
    if isinstance(row, BadRowError):
        raise row
    if field not in row:
        raise BadRowError("missing field", f"there is no field {field!r}; the fields are {', '.join(map(repr, row))}")
    value = row[field]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        if not value or value.isspace():
            raise BadRowError("empty field", f"field {field!r} is {'blank' if value else 'empty'}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            what = f"half a surrogate pair (\\u{code:04x}), which is no text"
            if 0xDC80 <= code <= 0xDCFF:  # how surrogateescape keeps a byte that is no UTF-8
                what = f"the byte 0x{code - 0xDC00:02X}, which is not UTF-8 text"
            raise BadRowError("undecodable bytes", f"field {field!r} holds {what}") from None
        return value
    if value is None:
        raise BadRowError("missing field", f"field {field!r} is null")
    if isinstance(value, list | dict):
        what = "a list" if isinstance(value, list) else "an object"
        raise BadRowError("nested value", f"field {field!r} holds {what}; it must hold text or a number")
    if isinstance(value, bool) or not math.isfinite(value):
        raise BadRowError("wrong type", f"field {field!r} is {str(value).lower()}; it must hold text or a number")
    return str(value)


def read_lines(path: Path) -> Iterator[bytes]:
    """Reads the lines of a file with their ends, a byte order mark left out. A name that ends in .gz is decompressed.

    Raises ``RequestError`` where the file cannot be read, is cut off or is UTF-16, and on a line of 64 MB or more.
    """
    at = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                at += 1
                if at == 1 and line.startswith(WIDE_MARKS):
                    raise RequestError(f"{path}: the file is UTF-16 or UTF-32 text; save it as UTF-8")
                if len(line) == LONGEST_LINE:
                    raise RequestError(f"{path}, line {at}: the line is longer than 64 MB; are its line ends missing?")
                yield line.removeprefix(codecs.BOM_UTF8) if at == 1 else line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RequestError(f"{path}: the compressed file is damaged after line {at}: {error}") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_json_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """Reads an object a line; lines of white space alone are passed over, but counted. Raises as ``read_lines``."""
    for number, line in enumerate(read_lines(path), 1):
        if not line.isspace():
            yield number, _read_object(line)


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


def read_delimited(path: Path, fields: Sequence[str], delimiter: str) -> Iterator[tuple[int, Record]]:
    """Reads the rows after the header. A row's number is the line it starts on, since a quoted field may hold line
    ends; blank lines are passed over. Between tabs a quotation mark is text, as tab-separated values are defined,
    unless the header is quoted. Raises ``RequestError`` where the header lacks a field or has it twice."""
    # Bytes that are no UTF-8 are kept apart, so that only the rows that hold them are bad.
    text: Iterator[str] = (line.decode("utf-8", "surrogateescape") for line in read_lines(path))
    text = chain([first := next(text, "")], text)
    bare = delimiter == "\t" and not first.startswith('"')
    reader = csv.reader(text, delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL)
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
            check_names(f"{path}: the header has", "field", header, fields)
        elif bare and any(map(QUOTED.fullmatch, values)):
            why = "a field is written in CSV's quotes, which tab-separated values do not have; save the file as .csv"
            yield number, BadRowError("quoted field", why)
        elif len(values) == len(header):
            yield number, dict(zip(header, values, strict=True))
        else:
            why = f"the row has {len(values)} fields, but the header has {len(header)}; is a delimiter not quoted?"
            yield number, BadRowError("wrong number of fields", why)


def check_names(place: str, what: str, names: list[str], fields: Sequence[str]) -> None:
    """Raises ``RequestError`` unless a file has each of the fields once."""
    for field in fields:
        if names.count(field) != 1:
            wrong = "more than one" if field in names else "no"
            raise RequestError(
                f"{place} {wrong} {what} {field!r}; its {what}s are {', '.join(map(repr, names))}; {NAME_FIELDS}"
            )
