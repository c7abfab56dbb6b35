"""Plug-ins: files that register classes of somebody's own, found again by other processes and named by their source."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from foresee.core.errors import RequestError
from foresee.core.files import hash_file

ENTRY_POINT_GROUP = "foresee.plugins"
PLUGIN = "foresee_plugin_"
"""How the modules of plug-in files are called."""

_sources: dict[type, dict[Path, str]] = {}
"""The files behind each class of a plug-in with their digests, as they were when it was registered."""
_loaded: dict[str, str] = {}
"""Digests of the files that ``load_plugin_file`` imported, by module."""
_loading: list[Path] = []
"""The files that are being imported."""


def load_plugin_file(path: Path) -> None:
    """Imports one Python file so that it registers what it defines; again where it has changed since.

    The file is code that the user chose to run; it can import what lies beside it, and one in a package is imported
    as a part of that. Raises ``RequestError`` where it is missing, is not Python, or trains as it is imported.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"--plugin {path}: no such file; give the path of a Python file that registers something")
    if path.suffix != ".py":
        raise RequestError(f"--plugin {path}: not a Python file; its name must end in .py")
    here, digest, words = path.resolve(), hash_file(path), [path.stem]
    root = here.parent
    while (root / "__init__.py").is_file():
        root, words = root.parent, [root.name, *words]
    name = ".".join(words) if len(words) > 1 else f"{PLUGIN}{path.stem}"
    for known, module in _plugin_modules().items():
        held = Path(str(module.__file__))
        if held.resolve() == here and _loaded.get(known, digest) == digest:
            return
        if known == name and held.resolve() != here:
            raise RequestError(
                f"--plugin {path}: a plug-in file of that name is already loaded from {held}; rename one"
            )
    if str(root) not in sys.path:
        sys.path.append(str(root))
    _loading.append(path)
    try:
        if len(words) > 1:
            importlib.import_module(name.rpartition(".")[0])
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if not isinstance(error, SyntaxError):
            raise
        at = Path(error.filename or path)
        where = f"--plugin {path}" if at.resolve() == here else f"--plugin {path}: in {at}"
        raise RequestError(f"{where}: line {error.lineno or 1}: {error.msg}") from error
    finally:
        _loading.pop()
    _loaded[name] = digest


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
        source = Path(inspect.getsourcefile(cls) or "")
    except (OSError, TypeError):  # typed into a session
        source = Path()
    found = _files_behind(source.resolve(), sys.modules[cls.__module__].__package__ or "") if source.is_file() else ()
    _sources[cls] = {file: hash_file(file)[:16] for file in found}


def plugin_digest(classes: Sequence[type]) -> str:
    """16 hexadecimal characters of the source of those classes that are not this package's own, as it was when they
    were registered, and of what they import from their own package or folder, so that an edited plug-in is another
    run; empty where there are none. Raises ``RequestError`` where one stands in no file."""
    files: dict[Path, str] = {}
    for cls in classes:
        if cls.__module__.startswith("foresee."):
            continue
        if not _sources[cls]:
            raise RequestError(
                f"{cls.__qualname__} stands in no file, so its runs could not be named by its source, nor trained by "
                "other processes; write it into one (in a notebook: %%writefile mine.py) and foresee.plugin that"
            )
        files |= _sources[cls]
    return hashlib.sha256("".join(sorted(files.values())).encode()).hexdigest()[:16] if files else ""


def _files_behind(path: Path, package: str) -> set[Path]:
    """A module's file and those that it imports, directly or not: of its own top-level package, or without one, of its
    own folder."""
    root, own = path.parents[package.count(".") + 1 if package else 0], package.partition(".")[0]
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
    for node in ast.walk(ast.parse(path.read_bytes())):
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
