"""``foresee list``."""

import hashlib
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import foresee
from foresee.cli.options import AsJson, emit, output
from foresee.core.errors import ForeseeError, RequestError
from foresee.core.files import cache_folder, read_json, write_json
from foresee.core.registry import ENTRY_POINT_GROUP, Registry, loaded_plugin_files, nearest

Listing = dict[str, dict[str, dict[str, Any]]]


def command(
    kind: Annotated[
        str, typer.Argument(help="tasks, objectives, backbones, metrics or studies; all of them by default.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Shows what can be named in a spec, with its options."""
    listed = cached_listing()
    if kind and kind not in listed:
        raise RequestError(f"unknown kind {kind!r}: {nearest(kind, list(listed))}")
    chosen = {kind: listed[kind]} if kind else listed
    if as_json:
        emit(chosen)
        return
    for name, entries in chosen.items():
        table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for entry, found in entries.items():
            options = ",".join(f"{key}={default}" for key, default in found.get("options", {}).items())
            said = f"preset for {found['preset']}" if "preset" in found else found["summary"]
            table.add_row(entry, f"{said}\n{options}" if options else said)
        output().print(table, "", markup=False)


def cached_listing() -> Listing:
    """``find_entries``, kept for as long as no file of the package changes: it has to import PyTorch, which takes
    longer than everything else together. Where that is imported anyway, or
    there are plug-ins, everything is found anew."""
    if "torch" in sys.modules or loaded_plugin_files() or entry_points(group=ENTRY_POINT_GROUP):
        return find_entries()
    files = sorted(Path(foresee.__file__).parent.rglob("*.py"))
    stamps = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    stamp, path = hashlib.sha256(repr(stamps).encode()).hexdigest(), cache_folder() / "list.json"
    with suppress(ForeseeError, KeyError, TypeError):
        kept = read_json(path)
        if kept["stamp"] == stamp:
            listed: Listing = kept["listed"]
            return listed
    listed = find_entries()
    with suppress(ForeseeError):
        write_json(path, {"stamp": stamp, "listed": listed})
    return listed


def find_entries() -> Listing:
    """Summary and options of every entry by kind, of what every entry understands, and presets."""
    from foresee.experiments.catalogue import all_registries

    return {kind: _entries(registry) for kind, registry in all_registries().items()}


def _entries(registry: Registry[Any]) -> dict[str, dict[str, Any]]:
    from foresee.core.spec import options_text

    classes = {name: registry.get(name) for name in registry.names()}
    if registry.wrapper is not None:
        classes[f"every {registry.kind}"] = registry.wrapper
    entries = {name: {"summary": cls.summary, "options": options_text(cls)} for name, cls in classes.items()}
    return entries | {name: {"preset": spec} for name, spec in registry.presets().items()}
