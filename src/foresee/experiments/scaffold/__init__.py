"""A plug-in file to begin with: ``foresee new objective NAME`` writes one that runs as it is, with its test."""

from __future__ import annotations

import re
from importlib import resources
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
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise RequestError(f"{name!r} is no name for a plug-in; write lower-case words joined by hyphens, as my-idea")
    registry: Registry[object] = (part_registries() | {"metric": metrics})[kind]
    if name in {*registry.names(), *registry.presets()}:
        raise RequestError(f"the {kind} {name!r} is there already; choose another name")
    path = folder / f"{name.replace('-', '_')}.py"
    if path.exists():
        raise RequestError(f"{path} exists; choose another name or folder")
    text = resources.files(__name__).joinpath(f"{kind}.py.txt").read_text(encoding="utf-8")
    words = {"@NAME@": name, "@CLASS@": "".join(map(str.capitalize, name.split("-"))), "@FILE@": path.name}
    for mark, word in words.items():
        text = text.replace(mark, word)
    files.write_text(path, text)
    return path
