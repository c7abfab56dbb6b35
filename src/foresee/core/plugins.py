"""Plug-ins: files that register classes of somebody's own, found again by other processes and named by their source."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from foresee.core.errors import ForeseeError, RequestError
from foresee.core.files import hash_file

ENTRY_POINT_GROUP = "foresee.plugins"
PLUGIN = "foresee_plugin_"
"""How the modules of plug-in files are called."""

_sources: dict[type, dict[Path, str]] = {}
"""The files behind each class of a plug-in with their digests, as they were when it was registered."""
_loaded: dict[str, dict[Path, str]] = {}
"""By module that ``load_plugin_file`` imported, the files behind it with their digests; the latest comes last."""
_loading: list[Path] = []
"""The files that are being imported."""


def is_own(part: type) -> bool:
    """Whether a class is somebody's own, not this package's."""
    return not part.__module__.startswith("foresee.")


@contextmanager
def explained(cls: type, what: str) -> Iterator[None]:
    """Turns what Python raises while ``what``, of a class of somebody's own, is called into a ``RequestError`` of one
    sentence, with the line of their file; in this package's own it would be a defect, which escapes."""
    try:
        yield
    except (ForeseeError, Warning):
        raise
    except Exception as error:
        if not is_own(cls):
            raise
        said = (str(error).strip().splitlines() or [""])[0]
        frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)
                  if frame.f_globals.get("__name__") == cls.__module__]  # fmt: skip
        where = f" (line {frames[-1][1]} of {Path(frames[-1][0]).name})" if frames else ""
        raise RequestError(f"{what} raises {type(error).__name__}{said and f': {said}'}{where}") from error


def attempt(part: Any, method: str, *given: Any, **named: Any) -> Any:
    """Calls a method, which is ``explained``."""
    with explained(type(part), f"{type(part).__name__}.{method}"):
        return getattr(part, method)(*given, **named)


def load_plugin_file(path: Path) -> None:
    """Imports one Python file so that it registers what it defines; again where it has changed since.

    The file is code that the user chose to run; it can import what lies beside it, and one in a package is imported
    as a part of that. What it imports of its own is imported again too where that has changed. Raises ``RequestError``
    where it is missing, is not Python, trains as it is imported, or would be given another file of the same name in
    place of one that it imports.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"--plugin {path}: no such file; give the path of a Python file that registers something")
    if path.suffix != ".py":
        raise RequestError(f"--plugin {path}: not a Python file; its name must end in .py")
    here, words = path.resolve(), [path.stem]
    root = here.parent
    while (root / "__init__.py").is_file():
        root, words = root.parent, [root.name, *words]
    name = ".".join(words) if len(words) > 1 else f"{PLUGIN}{path.stem}"
    own = words[0] if len(words) > 1 else ""
    with _syntax_explained(path):
        digests = {file: hash_file(file) for file in _files_behind(here, root, own)}
    for known, module in _plugin_modules().items():
        held = Path(str(module.__file__))
        if held.resolve() == here and _loaded.get(known, digests) == digests:
            return
        if known == name and held.resolve() != here:
            raise RequestError(
                f"--plugin {path}: a plug-in file of that name is already loaded from {held}; rename one"
            )
    if str(root) not in sys.path:
        sys.path.append(str(root))
    for file in digests.keys() - {here}:
        if (found := _file_of_import(_module_name(file, root))) not in (None, file):
            raise RequestError(f"--plugin {path}: it imports {file}, but would get {found} by that name; rename one")
    _forget_changed(digests, root, own)
    _loaded.pop(name, None)
    _loaded[name] = digests  # also where it fails: what it imports stays imported
    _loading.append(path)
    try:
        with _syntax_explained(path):
            if len(words) > 1:
                importlib.import_module(name.rpartition(".")[0])
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    finally:
        _loading.pop()


@contextmanager
def _syntax_explained(path: Path) -> Iterator[None]:
    """Says which line of a plug-in's file, or of one that it imports, is no Python."""
    try:
        yield
    except SyntaxError as error:
        at = Path(error.filename or path)
        where = f"--plugin {path}" if at.resolve() == path.resolve() else f"--plugin {path}: in {at}"
        raise RequestError(f"{where}: line {error.lineno or 1}: {error.msg}") from error


def _module_name(file: Path, root: Path) -> str:
    """What a file is imported as where ``root`` is on the path."""
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _file_of_import(name: str) -> Path | None:
    """The file that importing a module gives or would give here, found without importing it; None where none is."""
    spec, places, words = None, None, name.split(".")
    for end in range(1, len(words) + 1):
        part = ".".join(words[:end])
        spec = getattr(sys.modules.get(part), "__spec__", None) or PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return Path(spec.origin).resolve() if spec is not None and spec.origin else None


def _forget_changed(digests: Mapping[Path, str], root: Path, own: str) -> None:
    """Forgets those of the modules that a plug-in imports of its own that have changed since, or import one that has;
    the classes of the others stay what they are to other plug-ins."""
    before = {file: digest for each in _loaded.values() for file, digest in each.items()}
    changed = {file for file, digest in digests.items() if before.get(file, digest) != digest}
    for file in changed:  # Python takes bytecode for that of any text of the same size and second
        with suppress(OSError):
            Path(importlib.util.cache_from_source(str(file))).unlink()
    for file in digests:
        if changed.isdisjoint(_files_behind(file, root, own)):
            continue
        name = _module_name(file, root)
        sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:  # where ``from . import child`` looks first
            vars(sys.modules[parent]).pop(child, None)
    importlib.invalidate_caches()


def refuse_while_loading() -> None:
    """Raises ``RequestError`` where a plug-in's file is being imported: every process that is to know it would do what
    the file does."""
    if _loading:
        raise RequestError(f'{_loading[-1]} trains as it is imported; put that under `if __name__ == "__main__":`')


def _plugin_modules() -> dict[str, ModuleType]:
    """Modules that registered something and are neither this package's nor found by an entry point."""
    found = {cls.__module__ for cls in _sources} - {point.module for point in entry_points(group=ENTRY_POINT_GROUP)}
    named = {name: module for name, module in sys.modules.items() if name in found or name.startswith(PLUGIN)}
    return {name: module for name, module in named.items() if getattr(module, "__file__", None)}


def loaded_plugin_files() -> list[Path]:
    """The files that made something known, by ``load_plugin_file`` or imported by the program, for processes that are
    to know it too."""
    return [Path(str(module.__file__)) for module in _plugin_modules().values()]


def loaded_plugin_options() -> list[str]:
    """The words of a command line that make them known again."""
    return [word for path in loaded_plugin_files() for word in ("--plugin", os.path.relpath(path))]


def note_source(cls: type) -> None:
    """Remembers the source of a class that is being registered: what runs is that, whatever the file becomes."""
    try:
        source = Path(inspect.getsourcefile(cls) or "").resolve()
    except (OSError, TypeError):  # typed into a session
        source = Path()
    package = sys.modules[cls.__module__].__package__ or ""
    root = source.parents[package.count(".") + 1 if package else 0] if source.is_file() else source
    found = _files_behind(source, root, package.partition(".")[0]) if source.is_file() else ()
    _sources[cls] = {file: hash_file(file)[:16] for file in found}


def plugin_digest(classes: Sequence[type]) -> str:
    """16 hexadecimal characters of the source of those classes that are not this package's own, as it was when they
    were registered, and of what they import from their own package or folder, so that an edited plug-in is another
    run; empty where there are none. Raises ``RequestError`` where one stands in no file."""
    files: dict[Path, str] = {}
    for cls in classes:
        if not is_own(cls):
            continue
        if not _sources[cls]:
            raise RequestError(
                f"{cls.__qualname__} stands in no file, so its runs could not be named by its source, nor trained by "
                "other processes; write it into one (in a notebook: %%writefile mine.py) and foresee.plugin that"
            )
        files |= _sources[cls]
    return hashlib.sha256("".join(sorted(files.values())).encode()).hexdigest()[:16] if files else ""


def explain_edited(classes: Sequence[type], digest: str) -> str:
    """Which of these classes are plug-ins, and of which files, where their ``plugin_digest`` is another; else empty."""
    with suppress(RequestError):  # one stands in no file any more
        if plugin_digest(classes) == digest:
            return ""
    own = filter(is_own, classes)
    held = {cls.__qualname__: getattr(sys.modules.get(cls.__module__), "__file__", None) for cls in own}
    return " and ".join(f"{name} ({os.path.relpath(file)})" if file else name for name, file in held.items())


def _files_behind(path: Path, root: Path, own: str) -> set[Path]:
    """A module's file and those that it imports, directly or not: of its own top-level package, or without one, of the
    folder ``root``, from which either is imported."""
    found, left = {path}, [path]
    while left:
        here = left.pop()
        for name in _imported(here, here.relative_to(root).parts[:-1]):
            if own and name.partition(".")[0] != own:
                continue
            place = root.joinpath(*name.split("."))
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file() and file not in found and (own or "site-packages" not in file.parts):
                    found.add(file)
                    left.append(file)
    return found


def _imported(path: Path, package: Sequence[str]) -> Iterator[str]:
    """Dotted names that a file of a package imports, packages around them included; some name no module."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) + 1 - node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            words = name.split(".")
            yield from (".".join(words[: end + 1]) for end in range(len(words)))
