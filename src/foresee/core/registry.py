"""Names for tasks, backbones, objectives and diagnostics.

A plug-in is one class with one decorator::

    @tasks.register("path-star")
    @dataclass(frozen=True, kw_only=True)
    class PathStar(Task): ...

What a spec string may set is exactly the class's keyword-only constructor parameters, so a plug-in states its options
once, in Python, and a misspelled option can never be swallowed. A preset is a name for a spec of the same kind.

Built-in entries are found by importing every module of their package; other people's by the entry-point group
``foresee.plugins`` (each entry point names a module, which registers when imported) or as files (``core.plugins``).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from foresee.core import plugins
from foresee.core.errors import ForeseeError, RequestError
from foresee.core.plugins import ENTRY_POINT_GROUP

T = TypeVar("T")

FEW = 24
"""Names that one sentence lists at most."""


def nearest(name: str, known: list[str]) -> str:
    """What to say after an unknown name: its nearest neighbours, or what is known where nothing is near, if few."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(other) for other in close)}?"
    more = [f"and {len(known) - FEW} more"] if len(known) > FEW else []
    return f"known: {', '.join([*sorted(known)[:FEW], *more]) or 'none'}"


class Registry(Generic[T]):
    """Classes of one kind by name, and presets of that kind."""

    def __init__(self, kind: str, package: str, base: type = object) -> None:
        """``kind`` is the word used in messages; ``package`` is imported in full before the first look-up; every class
        must be a subclass of ``base``."""
        self.kind = kind
        self._base = base
        self._package = package
        self._classes: dict[str, type[T]] = {}
        self._presets: dict[str, str] = {}
        self.later: dict[str, frozenset[str]] = {}  # of each class by its name, as ``register`` has them
        self.renamed: dict[str, Mapping[str, str]] = {}
        self._wrapper: type[T] | None = None
        self._discovered = False

    def register(
        self, name: str, *, later: Sequence[str] = (), renamed: Mapping[str, str] | None = None
    ) -> Callable[[type[T]], type[T]]:
        """Class decorator that gives a class its name; raises ``RequestError`` where that or the class is none of this
        kind, or the name is taken, but by the same class as it was before, as where a cell of a notebook runs again.

        ``later`` names options that the class gained after runs of it existed: canonical specs leave them out at their
        defaults, so those runs keep their digests and their random streams. ``renamed`` gives the present names of
        options by the names that they had before, which are read still.
        """
        self.refuse_misnamed(name)

        def add(cls: type[T]) -> type[T]:
            given: Any = cls
            if not (isinstance(given, type) and issubclass(given, self._base)):
                given = getattr(cls, "__name__", repr(cls))
                raise RequestError(
                    f"{given} is registered as {self.kind} {name!r}, and must be a subclass of "
                    f"{self._package}.{self._base.__name__}"
                )
            if not cls.__module__.startswith(f"{self._package}."):
                self.discover()  # so that a clash names the newcomer, not the built-in entry, as the one to rename
            self._claim(name, f"{cls.__module__}.{cls.__qualname__}")
            if not cls.__module__.startswith(f"{self._package}."):
                plugins.note_source(cls)
            self._classes[name] = cls
            self.later[name] = frozenset(later)
            self.renamed[name] = renamed or {}
            return cls

        return add

    def wrap(self, cls: type[T]) -> type[T]:
        """Class decorator for the one class whose options every entry understands, beside its own.

        It takes what was built from an entry by position, keeps it as ``inner``, and has a default for each of its
        keyword-only options. Where all are at their defaults nothing is wrapped, and canonical specs leave out those
        that are. Raises ``RequestError`` where there is such a class already.
        """
        if self._wrapper is not None:
            held = f"{self._wrapper.__module__}.{self._wrapper.__qualname__}"
            raise RequestError(f"every {self.kind} is wrapped by {held}; {cls.__module__}.{cls.__qualname__} cannot be")
        self._wrapper = cls
        return cls

    @property
    def wrapper(self) -> type[T] | None:
        """The class given to ``wrap``, where there is one."""
        self.discover()
        return self._wrapper

    def preset(self, name: str, spec: str) -> None:
        """Gives ``spec`` (a spec string of this kind) a short name."""
        self.refuse_misnamed(name)
        self._claim(name, spec)
        self._presets[name] = spec

    def refuse_misnamed(self, name: object) -> None:
        """Raises ``RequestError`` where a name could not stand in a spec, or in a list of them, as what it is."""
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            said = "write lower-case words joined by hyphens, as my-idea"
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise RequestError(f"{name!r} is no name for {article} {self.kind}; {said}")

    def _claim(self, name: str, claimant: str) -> None:
        held = self._presets.get(name) or self._classes.get(name)
        holder = held if isinstance(held, str | None) else f"{held.__module__}.{held.__qualname__}"
        if holder not in (None, claimant):
            raise RequestError(f"{self.kind} name {name!r} is taken by {holder}; {claimant} needs another name")

    def get(self, name: str) -> type[T]:
        """The class called ``name``; raises ``RequestError`` naming the nearest known names."""
        self.discover()
        if name not in self._classes:
            known = [*self._classes, *self._presets]
            if self.kind == "task" and Path(name).exists():
                raise RequestError(f"{name} is a file, and a task is asked for: write data:{name}")
            own = "--plugin FILE makes one of your own known"
            raise RequestError(f"unknown {self.kind} {name!r}: {nearest(name, known)} ({own})")
        return self._classes[name]

    def name_of(self, cls: type[T]) -> str:
        """The name that a class was registered under; raises ``RequestError`` where it was not."""
        for name, registered in self._classes.items():
            if registered is cls:
                return name
        raise RequestError(f"{cls.__qualname__} is not a registered {self.kind}; decorate it with register")

    def expand(self, name: str) -> str | None:
        """The spec behind a preset, or None where ``name`` is not a preset."""
        self.discover()
        return self._presets.get(name)

    def names(self) -> list[str]:
        """Registered class names, sorted; presets are not among them."""
        self.discover()
        return sorted(self._classes)

    def presets(self) -> dict[str, str]:
        """Preset names and the specs behind them."""
        self.discover()
        return dict(sorted(self._presets.items()))

    def discover(self) -> None:
        """Imports every module of the package and of the plug-in entry points, once."""
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        for point in entry_points(group=ENTRY_POINT_GROUP):
            try:
                importlib.import_module(point.module)
            except ModuleNotFoundError as error:
                if error.name != point.module:
                    raise
                owner = point.dist.name if point.dist else "an installed package"
                raise ForeseeError(
                    f"plug-in {point.name!r} of {owner} names module {point.module!r}, which does not exist; "
                    "reinstall or uninstall that package"
                ) from error
