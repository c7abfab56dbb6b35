"""Spec strings: ``name:key=value,key=value``, the same in Python, YAML and on the command line.

Grammar: a name, then optionally a colon and options joined by commas. The first option may be a bare value, which sets
the entry's first option (``hf:PATH``). Values are read by the type that the option declares in Python: int, float, bool
(``true``/``false``), str, ``Literal`` choices, or any of these with ``| None`` (``none``).

``resolve`` turns a string into a class and a full set of options, defaults filled in and presets expanded, and
``Resolved.text`` is its one canonical spelling: two specs that mean the same run have the same text, so the same
digest.
"""

from __future__ import annotations

import inspect
import os
import re
import types
import typing
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from foresee.core.bounds import find_fault, plain_types
from foresee.core.errors import RequestError
from foresee.core.plugins import explained
from foresee.core.registry import Registry, nearest

T = TypeVar("T")

COMMA = re.compile(r"(?<!\\),")
"""What parts options; a comma within a value is written with a backslash before it."""


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Splits a spec string into its name and raw options; a leading bare value stands under the key ``""``."""
    name, colon, rest = text.strip().partition(":")
    if not name or (colon and not rest):
        raise RequestError(f"spec {text!r} is not of the form name:key=value,key=value")
    options: dict[str, str] = {}
    for index, part in enumerate(COMMA.split(rest) if rest else []):
        part = part.replace(r"\,", ",")
        key, equals, value = part.partition("=")
        if part and not equals and index == 0:
            key, value = "", part
        elif not equals or not key or not value:
            raise RequestError(f"spec {text!r}: {part!r} is not of the form key=value")
        if key in options:
            raise RequestError(f"spec {text!r}: option {key!r} is given twice")
        options[key] = value
    return name, options


def read_value(raw: str, declared: Any) -> Any:
    """Reads one option value by its declared type; raises ``ValueError`` saying what would be right."""
    if isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union:
        members = typing.get_args(declared)
        if type(None) in members and raw == "none":
            return None
        for member in members:
            if member is not type(None):
                return read_value(raw, member)
    if typing.get_origin(declared) is typing.Literal:
        choices = typing.get_args(declared)
        for choice in choices:
            if raw == write_value(choice):
                return choice
        raise ValueError(f"must be one of {', '.join(write_value(choice) for choice in choices)}")
    if declared is bool:
        if raw not in ("true", "false"):
            raise ValueError("must be true or false")
        return raw == "true"
    if declared in (int, float):
        try:
            return declared(raw)
        except ValueError:
            raise ValueError(f"must be {'a whole number' if declared is int else 'a number'}") from None
    if declared is str:
        return raw
    raise TypeError(f"an option of type {declared!r} cannot be set by a spec")


def write_value(value: Any) -> str:
    """The canonical spelling of an option value; ``read_value`` reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    return repr(value) if isinstance(value, float) else str(value).replace(",", r"\,")


_OPTIONS: dict[type, MappingProxyType[str, inspect.Parameter]] = {}
"""Of each class that was asked for them, as every spec that is read does."""


def options_of(cls: type) -> MappingProxyType[str, inspect.Parameter]:
    """The options of a registered class: its keyword-only constructor parameters, each of its annotation's type or else
    its default's. Raises ``RequestError`` where a spec cannot set one, or a default is not of its type."""
    if cls in _OPTIONS:
        return _OPTIONS[cls]
    with explained(cls, f"reading the annotations of {cls.__name__}"):
        hints, found = plain_types(cls), dict[str, inspect.Parameter]()
    for name, parameter in inspect.signature(cls.__init__).parameters.items():  # type: ignore[misc]  # only read
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            found[name] = parameter.replace(annotation=hints.get(name, type(parameter.default)))
            if (fault := _fault_of(found[name])) is not None:
                raise RequestError(f"{cls.__name__}: option {name!r} {fault}")
    return _OPTIONS.setdefault(cls, MappingProxyType(found))


def _fault_of(option: inspect.Parameter) -> str | None:
    default, required = option.default, option.default is inspect.Parameter.empty
    try:
        fits = read_value("" if required else write_value(default), option.annotation) == default
    except TypeError:
        return f"cannot be set by a spec; annotate {option.name}: float (or int, bool, str, Literal, these | None)"
    except ValueError:
        fits = False
    return None if required or fits else f"is {default!r} by default, which {option.annotation} does not allow"


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """A class and every one of its options; ``later`` as in ``Registry.register``."""

    name: str
    cls: type[T]
    options: Mapping[str, Any]
    later: frozenset[str] = frozenset()
    wrapper: type[T] | None = None
    """As in ``Registry.wrap``; ``options`` then hold its own after the class's."""

    @property
    def text(self) -> str:
        """The canonical spec string: every option in the order of declaration, but for later ones at their default."""
        return self._spell(self.options.keys() - self.later - shared_options(self.wrapper).keys())

    @property
    def brief(self) -> str:
        """The spec for a person: the options that are not at their defaults."""
        return self._spell(())

    def _spell(self, always: Collection[str]) -> str:
        """With the options of these names, and those that are not at their defaults."""
        known = options_of(self.cls) | shared_options(self.wrapper)
        shown = [
            f"{key}={write_value(value)}"
            for key, value in self.options.items()
            if key in always or value != known[key].default
        ]
        return f"{self.name}:{','.join(shown)}" if shown else self.name

    def build(self, *context: Any) -> T:
        """Constructs the class; ``context`` holds its positional parameters (a vocabulary size, a backbone, ...). The
        last of them is the generator, which also decides what PyTorch's own initialisation draws."""
        shared = shared_options(self.wrapper)
        with ExitStack() as held:
            if context:
                from foresee.core.seeds import global_stream_from  # here: reading specs needs no PyTorch

                held.enter_context(global_stream_from(context[-1].clone_state()))
            own = {key: value for key, value in self.options.items() if key not in shared}
            try:
                inspect.signature(self.cls.__init__).bind(self, *context, **own)
            except TypeError as error:
                given = ", ".join(type(each).__name__ for each in context)
                raise RequestError(f"{self.name}: its constructor must take ({given}) by position: {error}") from None
            with explained(self.cls, f"constructing {self.cls.__name__}"):
                built = self.cls(*context, **own)
        around = {key: self.options[key] for key in shared}
        if self.wrapper is None or all(value == shared[key].default for key, value in around.items()):
            return built
        wrapper: Any = self.wrapper
        return typing.cast(T, wrapper(built, **around))


def shared_options(wrapper: type | None) -> MappingProxyType[str, inspect.Parameter]:
    """The options that every entry of a registry understands."""
    return MappingProxyType({}) if wrapper is None else options_of(wrapper)


def resolve(registry: Registry[T], text: str) -> Resolved[T]:
    """Reads a spec of the registry's kind. Raises ``RequestError`` naming what is wrong and what would be right."""
    name, given = parse(text)
    seen, layers = [name], [given]
    while (behind := registry.expand(name)) is not None:
        name, given = parse(behind)
        if name in seen:
            raise RequestError(f"{registry.kind} preset {text!r} refers to itself")
        seen.append(name)
        layers.append(given)
    cls = registry.get(name)
    declared, shared = options_of(cls), shared_options(registry.wrapper)
    if both := declared.keys() & shared.keys():
        raise RequestError(f"{registry.kind} {name!r} has an option {min(both)!r}, which every {registry.kind} has")
    raw: dict[str, str] = {}
    renamed = registry.renamed.get(name, {})
    for layer in reversed(layers):
        for old in layer.keys() & renamed.keys():
            if renamed[old] in layer:
                raise RequestError(f"{registry.kind} {name!r}: option {renamed[old]!r} is given twice in {text!r}")
        layer = {renamed.get(key, key): value for key, value in layer.items()}
        if "" in layer:
            if not declared:
                raise RequestError(f"{registry.kind} {name!r} takes no options, but was given {layer['']!r}")
            first = next(iter(declared))
            if first in layer:
                raise RequestError(f"{registry.kind} {name!r}: option {first!r} is given twice in {text!r}")
            layer = {key or first: value for key, value in layer.items()}
        elif declared and layer and (first := next(iter(declared))) not in layer:
            key, value = next(iter(layer.items()))
            if key not in declared | shared and _is_path(key, value):
                layer = {first: f"{key}={value}"} | {k: v for k, v in layer.items() if k != key}
        raw |= layer
    known = declared | shared
    for key in raw:
        if key not in known:
            near = nearest(key, list(known))
            if key in inspect.signature(cls.__init__).parameters:
                near = "its constructor takes that by position too; make it keyword-only (*, or kw_only=True)"
            raise RequestError(f"{registry.kind} {name!r} has no option {key!r}: {near}")
    needed = ",".join(f"{key}=..." for key, option in declared.items() if option.default is inspect.Parameter.empty)
    options: dict[str, Any] = {}
    for key, parameter in known.items():
        if key in raw:
            try:
                options[key] = read_value(raw[key], parameter.annotation)
            except ValueError as error:
                raise RequestError(f"{registry.kind} {name!r}: {key}={raw[key]!r} {error}") from None
        elif parameter.default is inspect.Parameter.empty:
            raise RequestError(f"{registry.kind} {name!r} needs {key}=..., as in {name}:{needed}")
        else:
            # Read back as if it had been given, so that ``ratio: float = 0`` and ``ratio=0`` have one spelling.
            options[key] = read_value(write_value(parameter.default), parameter.annotation)
    if (fault := find_fault(cls, options)) is not None:
        raise RequestError(f"{name}: {fault}")
    return Resolved(name, cls, options, registry.later[name], registry.wrapper)


def _is_path(key: str, value: str) -> bool:
    """Whether ``key=value``, whose key names no option, is a path with ``=`` in it."""
    return "/" in key or os.sep in key or "/" in value or Path(f"{key}={value}").exists()


def brief(registry: Registry[T], text: str) -> str:
    """A spec for a person: the options that are not at their defaults."""
    return resolve(registry, text).brief


@lru_cache(maxsize=4096)
def _shortest(registry: Registry[Any], text: str) -> str:
    full = resolve(registry, text).text
    same = [name for name in registry.presets() if resolve(registry, name).text == full]
    return same[0] if same else brief(registry, text)


def shorten(registry: Registry[Any], text: str) -> str:
    """A spec in as few words as may be: a preset's name where one means the same, else the options that are not at
    their defaults; as it is where it names a plug-in that is not loaded."""
    try:
        return _shortest(registry, text)
    except RequestError:
        return text


def options_text(cls: type) -> dict[str, str]:
    """The options of a registered class and their defaults as a spec spells them; a required one's is its type."""
    shown: dict[str, str] = {}
    for key, parameter in options_of(cls).items():
        required = parameter.default is inspect.Parameter.empty
        kind = getattr(parameter.annotation, "__name__", str(parameter.annotation))
        shown[key] = f"<{kind}>" if required else write_value(parameter.default)
    return shown


def split_list(text: str) -> list[str]:
    """Spec strings joined by commas, apart: a piece that is only ``key=value`` belongs to the spec before it."""
    specs: list[str] = []
    for piece in COMMA.split(text):
        if specs and "=" in piece and ":" not in piece.partition("=")[0]:
            specs[-1] += f",{piece}"
        else:
            specs.append(piece)
    return specs


def describe(registry: Registry[T], built: T) -> str:
    """The canonical spec of an object that keeps its options as attributes of the same names, as tasks do."""
    wrapper = registry.wrapper
    inner: Any = built
    options: dict[str, Any] = {}
    if wrapper is not None and type(built) is wrapper:
        options = {key: getattr(built, key) for key in options_of(wrapper)}
        inner = inner.inner
    cls, name = type(inner), registry.name_of(type(inner))
    options = {key: getattr(inner, key) for key in options_of(cls)} | options
    return Resolved(name, cls, options, registry.later[name], wrapper).text
