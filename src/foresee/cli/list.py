"""``foresee list``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foresee.backbones.base import backbones
from foresee.cli.options import AsJson, emit, output
from foresee.cli.show import show_entries
from foresee.core.errors import RequestError
from foresee.core.registry import Registry, nearest
from foresee.core.spec import options_text
from foresee.experiments.studies.base import studies
from foresee.metrics.base import metrics
from foresee.objectives.base import objectives
from foresee.tasks.base import tasks

REGISTRIES: dict[str, Registry[Any]] = {
    "tasks": tasks, "objectives": objectives, "backbones": backbones, "metrics": metrics, "studies": studies,
}  # fmt: skip


def command(
    kind: Annotated[
        str, typer.Argument(help="tasks, objectives, backbones, metrics or studies; all of them by default.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Shows what can be named in a spec, with its options."""
    if kind and kind not in REGISTRIES:
        raise RequestError(f"unknown kind {kind!r}: {nearest(kind, list(REGISTRIES))}")
    listed = {name: entries_of(registry) for name, registry in REGISTRIES.items() if kind in ("", name)}
    emit(listed) if as_json else show_entries(listed, output())


def entries_of(registry: Registry[Any]) -> dict[str, dict[str, Any]]:
    """Summary and options of every entry, what every entry understands, and presets."""
    classes = {name: registry.get(name) for name in registry.names()}
    if registry.wrapper is not None:
        classes[f"every {registry.kind}"] = registry.wrapper
    entries = {name: {"summary": cls.summary, "options": options_text(cls)} for name, cls in classes.items()}
    return entries | {name: {"preset": spec} for name, spec in registry.presets().items()}
