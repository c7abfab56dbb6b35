"""Everything that has a name, and what is to be said of it: its options with their values, its source, an example."""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from foresee.core.bounds import bounds_of
from foresee.core.errors import RequestError
from foresee.core.plugins import is_own, loaded_plugin_options
from foresee.core.registry import Registry, nearest
from foresee.core.seeds import stream
from foresee.core.spec import options_of, options_text, parse, resolve, write_value
from foresee.experiments.studies.base import studies
from foresee.metrics.base import metrics
from foresee.training.settings import part_registries

STAR = "path-star"


def all_registries() -> dict[str, Registry[Any]]:
    """By the plural of what they hold, as ``foresee list`` says it."""
    parts = {f"{kind}s": registry for kind, registry in part_registries().items()}
    return {**parts, "metrics": metrics, "studies": studies}


@dataclass(frozen=True)
class Option:
    """An option of an entry; ``meaning`` is empty where only the entry's own words say it."""

    name: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Entry:
    """One thing with a name. ``stands_for`` is the spec of a preset; ``about`` its own words, ``source`` where it comes
    from, ``examples`` commands, ``line`` an example of a task as it is written."""

    kind: str
    name: str
    summary: str
    stands_for: str
    options: list[Option]
    about: str
    source: str
    examples: list[str]
    line: str = ""
    shared: list[Option] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """One entry of ``foresee show --json``."""
        return asdict(self)


def find_entries(name: str) -> list[Entry]:
    """Everything of that name, of whatever kind, or else the metric that measures a row of that name. Raises
    ``RequestError`` with the nearest names where there is none."""
    found: list[Entry] = []
    known: list[str] = []
    for registry in all_registries().values():
        names = {*registry.names(), *registry.presets()}
        known += names
        if name in names:
            found.append(describe_entry(registry, name))
    places = {each: (metrics.get(each).__doc__ or "").find(f"``{name}``") for each in metrics.names()}
    if not found and (measuring := [each for each, at in places.items() if at >= 0]):
        found.append(describe_entry(metrics, min(measuring, key=places.__getitem__)))
    if not found:
        near = nearest(name, sorted(set(known)))
        raise RequestError(f"nothing is called {name!r}: {near} (--plugin FILE makes one of your own known)")
    return found


def describe_entry(registry: Registry[Any], name: str) -> Entry:
    """What is to be said of an entry or a preset."""
    stands_for = registry.expand(name) or ""
    cls = registry.get(_class_name(registry, name))
    own = {} if not stands_for else {key: value for key, value in parse(stands_for)[1].items() if key}
    shared = [] if registry.wrapper is None else list_options(registry.wrapper, {})
    example, line = _example(registry, name, cls), ""
    if registry.kind == "task" and "<" not in example:
        task = resolve(registry, name).build()
        prompt, answer = next(task.sample(task.group, stream("show", name)).pairs())
        line = task.write_line(prompt, answer)
    module = inspect.getdoc(sys.modules[cls.__module__]) or ""
    source = re.search(r"^Sources?: (.+?)(?=\n\n|\n[A-Z]\w+: |\Z)", module, flags=re.MULTILINE | re.DOTALL)
    about = re.sub(r"^Options:\n(    .*\n?)+", "", inspect.cleandoc(cls.__doc__ or ""), flags=re.MULTILINE).strip()
    return Entry(
        kind=registry.kind, name=name, summary=cls.summary, stands_for=stands_for, options=list_options(cls, own),
        about=plain(f"{module.partition(chr(10))[0]}\n\n{about}" if registry.kind == "objective" else about),
        source=plain(" ".join(source.group(1).split())) if source else "", examples=[example], line=line, shared=shared,
    )  # fmt: skip


def list_options(cls: type, given: Mapping[str, str]) -> list[Option]:
    """The options of a class, with the defaults that a preset gives."""
    meanings = {
        name: " ".join(said.split())
        for name, said in re.findall(
            r"^    (\w+): (.+(?:\n {6,}.+)*)$", inspect.cleandoc(cls.__doc__ or ""), flags=re.MULTILINE
        )
    }
    defaults, bounds = {**options_text(cls), **given}, bounds_of(cls)
    return [
        Option(
            name,
            ", ".join([values_of(parameter.annotation), *([bounds[name].describe()] if name in bounds else [])]),
            re.sub("^<.*>$", "needed", defaults[name]),
            plain(meanings.get(name, "")),
        )
        for name, parameter in options_of(cls).items()
    ]


def values_of(declared: Any) -> str:
    """What an option may be, for people."""
    if isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union:
        members = [values_of(each) for each in typing.get_args(declared) if each is not type(None)]
        return " or ".join([*members, "none"])
    if typing.get_origin(declared) is typing.Literal:
        return ", ".join(map(write_value, typing.get_args(declared)))
    return {bool: "true, false", int: "a whole number", float: "a number"}.get(declared, "a text")


def plain(text: str) -> str:
    """Without the marks of code, a line a paragraph or item of a list."""
    return re.sub(r"(?<!\n)\n(?!\n|\* ) *", " ", text.replace("``", ""))


def _class_name(registry: Registry[Any], name: str) -> str:
    while (behind := registry.expand(name)) is not None:
        name = parse(behind)[0]
    return name


def _example(registry: Registry[Any], name: str, cls: type) -> str:
    """A command that names it; ``<...>`` stands for what only its user knows."""
    needed = [f"{key}={shown}" for key, shown in options_text(cls).items() if shown.startswith("<")]
    spec = name if registry.expand(name) or not needed else f"{name}:{','.join(needed)}"
    words = {
        "task": f"foresee generate {spec} -n 3",
        "objective": f"foresee compare {STAR} --objectives next-token,{spec}",
        "backbone": f"foresee train {STAR} --objective reversed --backbone {spec}",
        "metric": "foresee evaluate RUN",
        "study": f"foresee study {spec}",
    }[registry.kind]
    return " ".join([words, *(loaded_plugin_options() if is_own(cls) else [])])
