"""Spec strings: one grammar, typed values, one canonical spelling, and an error that says what would be right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from foresee.backbones import backbones
from foresee.core.bounds import Bounds, bounds_of, find_fault
from foresee.core.errors import ForeseeError
from foresee.core.registry import Registry
from foresee.core.seeds import torch_stream
from foresee.core.spec import (
    Resolved,
    describe,
    options_of,
    options_text,
    parse,
    read_value,
    resolve,
    split_list,
    write_value,
)
from foresee.metrics import metrics
from foresee.objectives import objectives
from foresee.tasks import tasks

# Discovery imports a package: here one whose modules register nothing.
gadgets: Registry[object] = Registry("gadget", "collections")


@gadgets.register("star")
@dataclass(frozen=True, kw_only=True)
class Star:
    """Every type that an option may have, most with a default."""

    degree: int
    ratio: float = 0
    on: bool = False
    label: str = "plain"
    mode: Literal["slow", "quick"] = "slow"
    heads: Literal[1, 2, None] = 1
    limit: int | None = None
    bound: float | None = 1e-05


@gadgets.register("built")
class Built:
    """Options are the keyword-only parameters; context comes by position."""

    def __init__(self, size: int, /, other: Any, *, layers: int = 3, width: int = 128) -> None:
        self.made = (size, other, layers, width)


@gadgets.register("bare")
class Bare:
    """No options at all."""


@gadgets.register("tuple")
class Tuple:
    """An option that no spec can spell."""

    def __init__(self, *, parts: tuple[int, ...]) -> None:
        self.parts = parts


gadgets.preset("tiny", "built:layers=1,width=16")
gadgets.preset("tiny-wide", "tiny:width=64")
gadgets.preset("tiny-by-place", "built:1")
gadgets.preset("loop", "pool")
gadgets.preset("pool", "loop")
gadgets.preset("lost", "nowhere")

PLAIN_TEXT = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=","), min_size=1, max_size=8)
STAR_OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "degree": st.integers(),
    "ratio": st.floats(allow_nan=False),
    "on": st.booleans(),
    "label": PLAIN_TEXT,
    "mode": st.sampled_from(["slow", "quick"]),
    "heads": st.sampled_from([1, 2, None]),
    "limit": st.none() | st.integers(),
    "bound": st.none() | st.floats(allow_nan=False),
}


@given(st.fixed_dictionaries({"degree": STAR_OPTIONS.pop("degree")}, optional=STAR_OPTIONS), st.randoms())
def test_text_is_a_fixed_point_whatever_the_order(options: dict[str, Any], shuffle: Any) -> None:
    given_order = list(options.items())
    shuffle.shuffle(given_order)
    spec = "star:" + ",".join(f"{key}={write_value(value)}" for key, value in given_order)
    resolved = resolve(gadgets, spec)
    assert {key: resolved.options[key] for key in options} == options
    assert list(resolved.options) == list(options_of(Star)) == list(options_text(Star))
    assert type(resolved.options["ratio"]) is float
    again = resolve(gadgets, resolved.text)
    assert again == resolved
    assert again.text == resolved.text


@pytest.mark.parametrize(
    ("spelling", "same"),
    [
        ("star:degree=2,ratio=0,on=false,label=plain,mode=slow,heads=1,limit=none,bound=1e-05", "star:2"),
        (" star:degree=2\n", "star:degree=2"),
        ("star:degree=2,ratio=0", "star:degree=2"),
        ("star:degree=2,ratio=0.0", "star:degree=2,ratio=0"),
        ("star:degree=2,ratio=1e-3", "star:degree=2,ratio=0.001"),
        ("star:degree=02", "star:degree=2"),
        ("star:degree=2,on=true,ratio=1", "star:degree=2,ratio=1,on=true"),
        ("star:2,label=a=b", "star:label=a=b,degree=2"),
        ("tiny", "built:layers=1,width=16"),
        ("tiny:width=32", "built:width=32,layers=1"),
        ("tiny:5", "built:layers=5,width=16"),
        ("tiny-wide", "built:layers=1,width=64"),
        ("tiny-wide:width=128,layers=3", "built"),
        ("tiny-by-place:layers=2", "built:layers=2"),
        ("tiny-by-place:2", "built:layers=2"),
    ],
)
def test_two_spellings_of_one_thing_have_one_text(spelling: str, same: str) -> None:
    assert resolve(gadgets, spelling) == resolve(gadgets, same)
    assert resolve(gadgets, spelling).text == resolve(gadgets, same).text


def test_build_passes_context_by_position_and_options_by_name_and_describe_undoes_it() -> None:
    generator = torch_stream("test")
    built = resolve(gadgets, "tiny").build(7, generator)
    assert isinstance(built, Built)
    assert built.made == (7, generator, 1, 16)
    assert resolve(gadgets, "star:2").build() == Star(degree=2)
    assert list(options_of(Built)) == ["layers", "width"]
    assert Resolved("bare", Bare, {}).text == resolve(gadgets, "bare").text == "bare"
    assert parse("hf:models/gpt2,dtype=float32") == ("hf", {"": "models/gpt2", "dtype": "float32"})
    assert (options_text(Star)["degree"], options_text(Star)["on"]) == ("<int>", "false")
    resolved = resolve(gadgets, "star:degree=2,ratio=0.25,limit=7,mode=quick")
    assert describe(gadgets, resolved.build()) == resolved.text
    with refused("int is not a registered gadget"):
        describe(gadgets, 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "spec '' is not of the form name:key=value,key=value"),
        (":degree=2", "spec ':degree=2' is not of the form name:key=value,key=value"),
        ("star:", "spec 'star:' is not of the form name:key=value,key=value"),
        ("star:2,3", "spec 'star:2,3': '3' is not of the form key=value"),
        ("star:degree=", "spec 'star:degree=': 'degree=' is not of the form key=value"),
        ("star:=2", "spec 'star:=2': '=2' is not of the form key=value"),
        ("star:degree=2,", "spec 'star:degree=2,': '' is not of the form key=value"),
        ("star:,degree=2", "spec 'star:,degree=2': '' is not of the form key=value"),
        ("star:degree=2,degree=3", "spec 'star:degree=2,degree=3': option 'degree' is given twice"),
        ("star:2,degree=3", "gadget 'star': option 'degree' is given twice in 'star:2,degree=3'"),
        ("stat:degree=2", "unknown gadget 'stat': did you mean 'star' or 'lost'?"),
        ("tyni", "unknown gadget 'tyni': did you mean 'tiny'?"),
        (
            "zzz",
            "unknown gadget 'zzz': known: bare, built, loop, lost, pool, star, tiny, tiny-by-place, tiny-wide, tuple",
        ),
        ("lost", "unknown gadget 'nowhere': known: bare, "),
        ("loop", "gadget preset 'loop' refers to itself"),
        ("star:degre=2", "gadget 'star' has no option 'degre': did you mean 'degree'?"),
        ("built:zzz=2", "gadget 'built' has no option 'zzz': known: layers, width"),
        ("built:size=2", "gadget 'built' has no option 'size': "),
        ("bare:2", "gadget 'bare' takes no options, but was given '2'"),
        ("bare:size=2", "gadget 'bare' has no option 'size': known: none"),
        ("star", "gadget 'star' needs degree=..., as in star:degree=..."),
        ("star:degree=two", "gadget 'star': degree='two' must be a whole number"),
        ("star:degree=2.0", "gadget 'star': degree='2.0' must be a whole number"),
        ("star:degree=none", "gadget 'star': degree='none' must be a whole number"),
        ("star:2,ratio=half", "gadget 'star': ratio='half' must be a number"),
        ("star:2,on=True", "gadget 'star': on='True' must be true or false"),
        ("star:2,on=1", "gadget 'star': on='1' must be true or false"),
        ("star:2,mode=fast", "gadget 'star': mode='fast' must be one of slow, quick"),
        ("star:2,heads=3", "gadget 'star': heads='3' must be one of 1, 2, none"),
        ("star:2,limit=many", "gadget 'star': limit='many' must be a whole number"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_sentence(spec: str, message: str) -> None:
    with refused(message):
        resolve(gadgets, spec)


def test_a_wrong_option_of_a_class_or_before_a_path_is_said() -> None:
    with pytest.raises(ForeseeError, match="Tuple: option 'parts' cannot be set by a spec; annotate parts: float"):
        resolve(gadgets, "tuple:parts=1")
    with refused("task 'data' has no option 'test_fiel'"):
        resolve(tasks, "data:test_fiel=/tmp/nothing.jsonl,path=d.jsonl")


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("next-token", ["next-token"]),
        ("next-token,reversed", ["next-token", "reversed"]),
        ("teacherless:hybrid=0.5,reversed", ["teacherless:hybrid=0.5", "reversed"]),
        ("star:degree=2,ratio=0,star:degree=3", ["star:degree=2,ratio=0", "star:degree=3"]),
        ("hf:models/gpt2,dtype=float32,tiny", ["hf:models/gpt2,dtype=float32", "tiny"]),
        ("star:2,label=a:b,bare", ["star:2,label=a:b", "bare"]),
    ],
)
def test_a_list_of_specs_is_split_between_specs_alone(text: str, specs: list[str]) -> None:
    assert split_list(text) == specs


@pytest.mark.parametrize("registry", [tasks, backbones, objectives, metrics], ids=lambda registry: registry.kind)
def test_registered_options_can_be_spelled_and_presets_resolve(registry: Registry[Any]) -> None:
    """Every default survives being written and read, or a run's own ``spec.json`` could not name it."""
    for name in registry.names():
        for key, parameter in options_of(registry.get(name)).items():
            if parameter.default is not parameter.empty:
                raw = write_value(parameter.default)
                assert raw, f"{registry.kind} {name!r}: the default of {key} is empty text, which no spec can hold"
                assert "," not in raw, f"{registry.kind} {name!r}: the default of {key} holds a comma"
                assert read_value(raw, parameter.annotation) == parameter.default
    for name, spec in registry.presets().items():
        assert resolve(registry, name).text == resolve(registry, spec).text


def test_an_option_that_came_later_is_left_out_at_its_default() -> None:
    registry: Registry[Any] = Registry("thing", "foresee.tasks")

    @registry.register("old", later=("added",))
    class Old:
        def __init__(self, *, size: int = 1, added: str | None = None) -> None:
            self.size, self.added = size, added

    assert resolve(registry, "old").text == "old:size=1"
    assert resolve(registry, "old:added=none").text == "old:size=1"
    assert resolve(registry, "old:added=much").text == "old:size=1,added=much"
    assert resolve(registry, "old:added=much").build().added == "much"
    assert describe(registry, Old()) == "old:size=1"
    assert describe(registry, Old(added="much")) == "old:size=1,added=much"


# Bounds that options declare: every one of every registry is kept, and said in one sentence


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
    with refused(f"{name}: {option}={value} must be ", bounds_of(cls)[option].describe()):
        resolve(registry, f"{name}:{text}")


def test_bounds_in_words() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Options:
        count: Annotated[int | None, Bounds(2, why="one is none")] = None
        share: Annotated[float, Bounds(above=0, at_most=1)] = 1.0
        rate: Annotated[float, Bounds(above=0)] = 1.0
        level: Annotated[int, Bounds(0, 9)] = 0
        kind: Literal["a", "b"] = "a"

    for options, said in (
        ({"count": 1}, "count=1 must be at least 2, one is none"),
        ({"share": 0.0}, "share=0.0 must be above 0 and at most 1"),
        ({"rate": math.inf}, "rate=inf must be above 0 and finite"), ({"level": 10}, "level=10 must be from 0 to 9"),
        ({"kind": "c"}, "kind='c' must be one of a, b"), ({"count": None, "share": 1, "level": 9}, None), ({}, None),
    ):  # fmt: skip
        assert find_fault(Options, options) == said
