"""A plug-in file to begin with: ``foresee new objective NAME`` writes one that runs as it is, with its test."""

from __future__ import annotations

import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.core.registry import Registry, nearest
from foresee.metrics.base import metrics
from foresee.training.settings import part_registries

KINDS = ("objective", "task", "backbone", "metric")


def write_plugin(kind: str, name: str, folder: Path = Path()) -> Path:
    """Writes ``NAME.py`` into a folder and returns its path. Raises ``RequestError`` on an unknown kind, a name that is
    taken or is none, and a file that is there."""
    if kind not in KINDS:
        raise RequestError(f"unknown kind {kind!r}: {nearest(kind, list(KINDS))}")
    registry: Registry[object] = (part_registries() | {"metric": metrics})[kind]
    registry.refuse_misnamed(name)
    if name in {*registry.names(), *registry.presets()}:
        raise RequestError(f"the {kind} {name!r} is there already; choose another name")
    path = folder / f"{name.replace('-', '_')}.py"
    if path.exists():
        raise RequestError(f"{path} exists; choose another name or folder")
    if path.stem in sys.stdlib_module_names or getattr(find_spec(path.stem), "origin", None):
        raise RequestError(f"{path} would hide the module {path.stem} from what lies beside it; choose another name")
    text = resources.files(__name__).joinpath(f"{kind}.py.txt").read_text(encoding="utf-8")
    words = {"@NAME@": name, "@CLASS@": "".join(map(str.capitalize, name.split("-"))), "@FILE@": path.name}
    for mark, word in words.items():
        text = text.replace(mark, word)
    files.write_text(path, text)
    return path
