"""How a run says where its training examples come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foresee.core.errors import RequestError


@dataclass(frozen=True)
class Fixed:
    """``fixed:N``: N generated examples, epoch after epoch."""

    examples: int


@dataclass(frozen=True)
class Fresh:
    """``fresh``: new generated examples at every step."""


@dataclass(frozen=True)
class File:
    """``file:PATH``: the examples of a file, epoch after epoch."""

    path: Path


Source = Fixed | Fresh | File


def parse_data(text: str) -> Source:
    """Reads ``fixed:N`` (or N alone), ``fresh`` or ``file:PATH``; anything else raises ``RequestError``."""
    kind, colon, value = text.partition(":")
    if text == "fresh":
        return Fresh()
    if kind == "file" and value:
        return File(Path(value))
    count = value if kind == "fixed" and colon else text
    if count.isascii() and count.isdecimal() and len(count) < 16 and int(count) > 0:
        return Fixed(int(count))
    raise RequestError(
        f"data {text!r} is none of fixed:N (N examples, at least 1), fresh (new ones at every step) and file:PATH"
    )
