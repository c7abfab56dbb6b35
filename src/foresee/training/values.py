"""The kinds of values that settings take, each with the spellings that are accepted."""

from __future__ import annotations

import numbers
import operator
import os
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from foresee.core.errors import RequestError


def canonical_data(given: object) -> str:
    """The one spelling of ``fixed:N`` (or N alone), ``fresh`` or ``file:PATH``; else raises ``RequestError``."""
    if isinstance(given, os.PathLike):
        return f"file:{Path(given)}"
    text = str(_whole(given)) if isinstance(given, numbers.Real) and float(given).is_integer() else str(given)
    kind, colon, value = text.partition(":")
    if text == "fresh":
        return text
    if kind == "file" and value:
        return f"file:{Path(value)}"
    count = value if kind == "fixed" and colon else text
    if count.isascii() and count.isdecimal() and len(count) < 16 and int(count) > 0:
        return f"fixed:{int(count)}"
    raise RequestError(
        f"data {text!r} is none of fixed:N (N examples, at least 1), fresh (new ones at every step) and file:PATH"
    )


def _truth(given: object) -> object:
    """NumPy's true and false as Python's."""
    return bool(given) if type(given).__name__ in ("bool_", "bool") else given


def _whole(given: object) -> int:
    """1000, 1e3 and NumPy's numbers alike; true and false are none."""
    if isinstance(given, numbers.Real) and not isinstance(given, bool):
        if isinstance(given, numbers.Integral):
            return operator.index(given)
        if float(given).is_integer():
            return int(float(given))
    raise ValueError("a whole number")


def whole_number(name: str, given: object, least: int = 1) -> int:
    """``given`` as a whole number; raises ``RequestError`` where it is none, or below ``least``."""
    try:
        found = _whole(given)
    except ValueError:
        raise RequestError(f"{name}={given!r} must be a whole number: how many") from None
    if found < least:
        raise RequestError(f"{name}={found} must be at least {least}")
    return found


def _real(given: object) -> float:
    if isinstance(given, numbers.Real) and not isinstance(given, bool):
        return float(given)
    raise ValueError("a number")


Truth = Annotated[bool, BeforeValidator(_truth)]
Whole = Annotated[int, BeforeValidator(_whole)]
Real = Annotated[float, BeforeValidator(_real), Field(allow_inf_nan=False)]

LIMITS = {
    "seed": "a whole number from 0 to below 2^63", "steps": "at least 1 and below 2^63",
    "lr": "above 0 and finite", "weight_decay": "at least 0 and finite", "clip": "at least 0 and finite",
    "beta2": "from 0 to below 1", "schedule": "constant or cosine", "precision": "auto, bf16 or float32",
    "device": "auto, cpu or, where PyTorch has it, cuda or mps",
    "until_solved": "true or false", "recompute": "true or false",
}  # fmt: skip
"""What a field must be, where its kind of failure alone does not say it."""
