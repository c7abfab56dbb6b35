"""JSON lines: an object a line, of which two fields are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foresee.datasets.opening import lines_of
from foresee.datasets.rows import BadRow, BadRowError, Fields, Row, text_of

# Numbers stay as they are written, so that 1.10 is not read as 1.1 and no whole number is too long.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def read_json_lines(path: Path, fields: Fields) -> Iterator[Row | BadRow]:
    """The rows of a file; lines of white space alone are passed over, but counted. Raises ``RequestError`` as
    ``lines_of`` does."""
    for number, line in enumerate(lines_of(path), 1):
        if line.isspace():
            continue
        try:
            record = _object(line)
            yield Row(number, _text(record, fields.prompt), _text(record, fields.response))
        except BadRowError as error:
            yield BadRow(str(path), number, "line", error.kind, str(error))


def _object(line: bytes) -> dict[str, Any]:
    try:
        record = _DECODER.decode(line.decode().strip())
    except UnicodeDecodeError as error:
        raise BadRowError(
            "undecodable bytes",
            f"column {error.start + 1}: the byte 0x{line[error.start]:02X} is not UTF-8 text",
        ) from None
    except json.JSONDecodeError as error:
        raise BadRowError("not JSON", f"column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise BadRowError("not JSON", "nested too deeply to be read") from None
    if isinstance(record, list):
        raise BadRowError(
            "not an object",
            "a JSON list, but each line must be one object; `jq -c .[] FILE` writes a list's objects so",
        )
    if not isinstance(record, dict):
        raise BadRowError("not an object", "not a JSON object; a line reads {...} with a field for each of the two")
    return record


def _text(record: dict[str, Any], field: str) -> bytes:
    if field not in record:
        raise BadRowError("missing field", f"there is no field {field!r}; the fields are {listed(list(record))}")
    return text_of(record[field], field)


def listed(names: list[str]) -> str:
    """Names for a message."""
    shown = ", ".join(map(repr, names[:8])) or "none"
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
