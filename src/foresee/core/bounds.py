"""Which values an option takes, declared with its type, and the one check of them."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Bounds:
    """Which numbers an option takes: ``heads: Annotated[int, Bounds(2)] = 4``. ``None``, which an option declares for
    itself, is always taken; an infinite number, never."""

    at_least: float = -math.inf
    at_most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    why: str = ""
    """What a refusal says after the bounds."""

    def describe(self) -> str:
        """The bounds in words, as in ``at least 2`` or ``from 0 to 1``."""
        if math.isfinite(self.at_least) and math.isfinite(self.at_most):
            return f"from {self.at_least} to {self.at_most}"
        bounds = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        return " and ".join(f"{name} {bound}" for name, bound in bounds.items() if math.isfinite(bound))

    def fault(self, option: str, value: float | None) -> str | None:
        """What is wrong with a value, and what would be right; None where it is within the bounds."""
        if value is None or (self.at_least <= value <= self.at_most and self.above < value < self.below):
            return None
        words = [self.describe()]
        if type(value) is float and self.at_most == self.below == math.inf:
            words.append("finite")
        return f"{option}={value} must be {' and '.join(filter(None, words))}{self.why and f', {self.why}'}"


@lru_cache(maxsize=256)
def _declared(cls: type) -> Mapping[str, tuple[Any, Bounds | None]]:
    """The type and the bounds of each constructor parameter of a class. Those of a dataclass are read at its fields,
    since inherited ones must be read where they stand."""
    of: Any = cls if "__dataclass_fields__" in vars(cls) else cls.__init__  # type: ignore[misc]  # only read
    found: dict[str, tuple[Any, Bounds | None]] = {}
    for name, kind in typing.get_type_hints(of, include_extras=True).items():
        plain, *extras = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind,)
        found[name] = plain, next((each for each in extras if isinstance(each, Bounds)), None)
    return found


def plain_types(cls: type) -> dict[str, Any]:
    """The declared types of a class's constructor parameters, without bounds."""
    return {name: kind for name, (kind, _) in _declared(cls).items()}


def bounds_of(cls: type) -> dict[str, Bounds]:
    """The bounds that a class declares for its options."""
    return {name: bounds for name, (_, bounds) in _declared(cls).items() if bounds is not None}


def find_fault(cls: type, options: Mapping[str, Any]) -> str | None:
    """What is wrong with the first of a class's ``options`` that is out of its bounds or none of its choices; None
    where all are right."""
    for name, (kind, bounds) in _declared(cls).items():
        if name not in options:
            continue
        if bounds is not None and (fault := bounds.fault(name, options[name])) is not None:
            return fault
        if typing.get_origin(kind) is Literal and options[name] not in typing.get_args(kind):
            return f"{name}={options[name]!r} must be one of {', '.join(map(str, typing.get_args(kind)))}"
    return None
