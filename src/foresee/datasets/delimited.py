"""CSV and TSV files with a header line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from foresee.core.errors import RequestError
from foresee.datasets.json_lines import listed
from foresee.datasets.opening import lines_of
from foresee.datasets.rows import BadRow, BadRowError, Fields, Row, text_of


def read_delimited(path: Path, fields: Fields, delimiter: str) -> Iterator[Row | BadRow]:
    """The rows after the header; ``number`` is the line that a row starts on, since a quoted field may hold line ends.
    Blank lines are passed over. Raises ``RequestError`` where the header lacks a field or has it twice."""
    # Bytes that are no UTF-8 are kept apart, so that only the rows that hold them are bad.
    text = (line.decode("utf-8", "surrogateescape") for line in lines_of(path))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    places = (0, 0)
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if header is None:
                raise RequestError(f"{path}, line {number}: the header cannot be read: {error}") from None
            yield BadRow(str(path), number, "line", "not CSV", _why(error, number, reader.line_num))
            continue
        if not values or values == [""]:
            continue
        if header is None:
            header = values
            places = (_place(path, header, fields.prompt), _place(path, header, fields.response))
            continue
        try:
            if len(values) != len(header):
                raise BadRowError(
                    "wrong number of fields",
                    f"the row has {len(values)} fields, but the header has {len(header)}; is a delimiter not quoted?",
                )
            prompt, response = (text_of(values[place], header[place]) for place in places)
            yield Row(number, prompt, response)
        except BadRowError as error:
            yield BadRow(str(path), number, "line", error.kind, str(error))


def _why(error: csv.Error, first: int, last: int) -> str:
    reach = f" (up to line {last})" if last > first else ""
    if "field larger than" in str(error):
        return f"a field has more than {csv.field_size_limit():,} characters{reach}; is a quote not closed?"
    return f"not CSV: {error}{reach}"


def _place(path: Path, header: list[str], field: str) -> int:
    if header.count(field) != 1:
        wrong = "more than one" if field in header else "no"
        raise RequestError(f"{path}: the header has {wrong} field {field!r}; its fields are {listed(header)}")
    return header.index(field)
