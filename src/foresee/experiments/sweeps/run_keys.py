"""A run as a mapping: the arguments of ``Settings.of`` by name, checked by the types that it declares."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from foresee.core.errors import RequestError
from foresee.core.spec import read_value
from foresee.training.settings import Settings


@cache
def keys() -> dict[str, type]:
    """The arguments of ``Settings.of`` and their types."""
    hints = typing.get_type_hints(Settings.of)
    return {name: hints[name] for name in inspect.signature(Settings.of).parameters}


def spec_of(item: Mapping[str, Any], where: str) -> Settings:
    """The run of a mapping whose keys are known. Raises ``RequestError`` that starts with ``where``."""
    for name, parameter in inspect.signature(Settings.of).parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in item:
            raise RequestError(f"{where}: {name} is missing")
    try:
        return Settings.of(**{key: _value(key, value) for key, value in item.items()})
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None


def _value(key: str, value: Any) -> Any:
    """The value as the argument's type. A number may be written as text, since YAML takes 1e-3 for text, and as a whole
    number where any will do; a number of examples stands for data."""
    declared = keys()[key]
    if declared is str and key == "data" and type(value) is int:
        return str(value)
    if declared is float and type(value) is int:
        return float(value)
    if type(value) is declared:
        return value
    if declared in (int, float) and isinstance(value, str):
        try:
            return read_value(value, declared)
        except ValueError as error:
            raise RequestError(f"{key}={value!r} {error}") from None
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    raise RequestError(f"{key}={value!r} must be {words[declared]}")
