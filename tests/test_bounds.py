"""Bounds that options declare: every one of every registry is kept, and said in one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from foresee.backbones import backbones
from foresee.core.bounds import Bounds, bounds_of, find_fault
from foresee.core.errors import RequestError
from foresee.core.registry import Registry
from foresee.core.spec import options_of, resolve
from foresee.objectives import objectives
from foresee.tasks import tasks

REGISTRIES: tuple[Registry[Any], ...] = (tasks, backbones, objectives)


def beyond(bounds: Bounds, kind: Any) -> list[float]:
    """Values just out of bounds, and none at all."""
    step = 1 if "int" in str(kind) else 0.25
    found = [bounds.at_least - step, bounds.at_most + step, bounds.above, bounds.below]
    found = [value for value in found if math.isfinite(value)]
    return [int(value) for value in found] if step == 1 else [*map(float, found), math.nan, math.inf, -math.inf]


CASES = [
    pytest.param(registry, name, option, value, id=f"{name}-{option}-{value}")
    for registry in REGISTRIES
    for name in registry.names()
    for option, bounds in bounds_of(registry.get(name)).items()
    for value in beyond(bounds, options_of(registry.get(name))[option].annotation)
]


@pytest.mark.parametrize(("registry", "name", "option", "value"), CASES)
def test_a_value_beyond_its_bounds_is_refused(registry: Registry[Any], name: str, option: str, value: float) -> None:
    cls = registry.get(name)
    needed = {key: "2" for key, each in options_of(cls).items() if each.default is each.empty}
    text = ",".join(f"{key}={given}" for key, given in (needed | {option: str(value)}).items())
    with pytest.raises(RequestError, match=f"^{name}: {option}={value} must be ") as refused:
        resolve(registry, f"{name}:{text}")
    assert bounds_of(cls)[option].describe() in str(refused.value)


def test_bounds_in_words() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Options:
        count: Annotated[int | None, Bounds(2, why="one is none")] = None
        share: Annotated[float, Bounds(above=0, at_most=1)] = 1.0
        rate: Annotated[float, Bounds(above=0)] = 1.0
        level: Annotated[int, Bounds(0, 9)] = 0
        kind: Literal["a", "b"] = "a"

    for given, said in (
        ({"count": 1}, "count=1 must be at least 2, one is none"),
        ({"share": 0.0}, "share=0.0 must be above 0 and at most 1"),
        ({"rate": math.inf}, "rate=inf must be above 0 and finite"), ({"level": 10}, "level=10 must be from 0 to 9"),
        ({"kind": "c"}, "kind='c' must be one of a, b"), ({"count": None, "share": 1, "level": 9}, None), ({}, None),
    ):  # fmt: skip
        assert find_fault(Options, given) == said
