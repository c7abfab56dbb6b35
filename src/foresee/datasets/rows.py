"""What a reader yields: good rows and bad ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from foresee.core.errors import RequestError


@dataclass(frozen=True)
class Fields:
    """Names of the two fields of a row that hold text."""

    prompt: str
    response: str

    def __post_init__(self) -> None:
        if self.prompt == self.response:
            raise RequestError(
                f"data: prompt={self.prompt} and response={self.response} name the same field; name two fields"
            )


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and its response in UTF-8, and where they stand: ``number`` counts lines or rows from 1."""

    number: int
    prompt: bytes
    response: bytes


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    file: str
    number: int
    unit: str
    """What ``number`` counts: "line" or "row"."""
    kind: str
    """The kind of reason, the same words for every row that is bad in that way."""
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}: {self.reason}"


class BadRowError(ValueError):
    """Why a row is bad: ``kind`` as in ``BadRow``, and a full reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def text_of(value: Any, field: str) -> bytes:
    """The text of a field in UTF-8: strings as they are, numbers as they are written. Raises ``BadRowError``."""
    if isinstance(value, str):
        if not value or value.isspace():
            raise BadRowError("empty field", f"field {field!r} is {'blank' if value else 'empty'}")
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            if 0xDC80 <= code <= 0xDCFF:  # how surrogateescape keeps a byte that is no UTF-8
                raise BadRowError(
                    "undecodable bytes",
                    f"field {field!r} holds the byte 0x{code - 0xDC00:02X}, which is not UTF-8 text",
                ) from None
            raise BadRowError(
                "undecodable bytes", f"field {field!r} holds half a surrogate pair (\\u{code:04x}), which is no text"
            ) from None
    if value is None:
        raise BadRowError("missing field", f"field {field!r} is null")
    if isinstance(value, bool):
        raise BadRowError("wrong type", f"field {field!r} is {str(value).lower()}; it must hold text or a number")
    if isinstance(value, int):
        return str(value).encode()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadRowError("wrong type", f"field {field!r} is {value}; it must hold text or a number")
        return repr(value).encode()
    if isinstance(value, list | dict):
        what = "a list" if isinstance(value, list) else "an object"
        raise BadRowError("nested value", f"field {field!r} holds {what}; it must hold text or a number")
    raise BadRowError("wrong type", f"field {field!r} holds a {type(value).__name__}; it must hold text or a number")
