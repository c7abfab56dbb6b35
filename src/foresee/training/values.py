"""The kinds of values that settings and functions take, each with the spellings that are accepted."""

from __future__ import annotations

import builtins
import functools
import inspect
import numbers
import operator
import os
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from pydantic import BeforeValidator, Field

from foresee.core.errors import RequestError

P = ParamSpec("P")
R = TypeVar("R")


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


# What functions are given ---------------------------------------------------------------------------------------------


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function so that it reads its arguments by their annotations, numbers as settings do. It then raises
    ``RequestError`` with the first of another type; what ``*args`` and ``**kwargs`` take is left to the function."""
    called: Callable[..., R] = function

    @functools.cache
    def declared() -> tuple[inspect.Signature, dict[str, Any]]:
        signature, plain = inspect.signature(function), inspect.unwrap(function)
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        single = {name: each.annotation for name, each in signature.parameters.items() if each.kind not in several}
        holder = types.SimpleNamespace(__annotations__=single)
        return signature, typing.get_type_hints(holder, {}, _Names(plain.__globals__))

    @functools.wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        signature, kinds = declared()
        given = signature.bind(*args, **named)
        for name, value in given.arguments.items():
            try:
                given.arguments[name] = _read(value, kinds.get(name, Any))
            except ValueError:
                plain = isinstance(value, str | int | float | list | tuple | None)
                shown = reprlib.repr(value) if plain else f"<{type(value).__name__}>"
                raise RequestError(f"{name}={shown} must be {_describe(kinds[name])}") from None
        return called(*given.args, **given.kwargs)

    return call


class _Names(dict[str, Any]):
    """What the words of annotations mean; one that only type checkers import may be anything."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def _read(given: Any, kind: Any) -> Any:
    """``given`` as an annotation says, a path also as its text; raises ``ValueError`` where it is something else."""
    outer, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return given
    if outer in (typing.Union, types.UnionType):
        for each in inner:
            with suppress(ValueError):
                return _read(given, each)
    elif kind in (int, float):
        return _whole(given) if kind is int else _real(given)
    elif outer is Sequence:
        if isinstance(given, Iterable) and not isinstance(given, str | bytes):
            return [_read(each, inner[0]) for each in given]
    elif kind is str and isinstance(given, os.PathLike):
        return os.fspath(given)
    elif isinstance(found := _truth(given) if kind is bool else given, outer or kind):
        return found
    raise ValueError


def _describe(kind: Any) -> str:
    """What an annotation says, in words."""
    words: dict[Any, str] = {
        str: "a text", Path: "a path", int: "a whole number", float: "a number", bool: "true or false",
        Sequence: "a list of such", Callable: "a function", types.NoneType: "None",
    }  # fmt: skip
    outer = typing.get_origin(kind)
    if outer in (typing.Union, types.UnionType):
        return " or ".join(map(_describe, typing.get_args(kind)))
    return words.get(outer or kind) or f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"
