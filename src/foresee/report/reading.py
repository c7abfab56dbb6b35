"""JSON files of a run directory, read with one clear sentence on whatever is wrong: the file, the line, the reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from foresee.core.errors import RequestError

T = TypeVar("T")


def read_object(path: Path, *, required: bool) -> dict[str, Any]:
    """The one JSON object that a file holds; empty where the file is missing and not required. Raises
    ``RequestError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise RequestError(f"{path}: no such file; a run directory holds one") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise RequestError(f"{path}: is nested too deeply") from None
    if not isinstance(found, dict):
        raise RequestError(f"{path}: must hold one JSON object")
    return found


def read_lines(path: Path, read: Callable[[dict[str, Any]], T], *, may_be_cut: bool = False) -> list[T]:
    """What ``read`` makes of each line; nothing where the file is missing. ``read`` raises ``ValueError`` on a line
    that is wrong; ``may_be_cut`` allows the last one to end early. Raises ``RequestError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None
    lines = text.split("\n")
    found: list[T] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            parsed = json.loads(line)
            if not isinstance(parsed, dict):
                raise ValueError("must hold one JSON object a line")
            found.append(read(parsed))
        except json.JSONDecodeError as error:
            if may_be_cut and number == len(lines):
                break
            raise RequestError(f"{path}: line {number}: not JSON: {error.msg}") from None
        except RecursionError:
            raise RequestError(f"{path}: line {number}: is nested too deeply") from None
        except ValueError as error:
            raise RequestError(f"{path}: line {number}: {error}") from None
    return found


def is_number(value: object) -> bool:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def numbers(value: Sequence[Any], what: str) -> tuple[float, ...]:
    """Finite numbers, or ``ValueError``."""
    if not all(is_number(each) for each in value):
        raise ValueError(f"{what} must hold numbers")
    return tuple(float(each) for each in value)


def texts(value: object, what: str) -> tuple[str, ...]:
    """Strings, or ``ValueError``."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{what} must be a list of texts")
    return tuple(value)
