"""``foresee list``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from foresee.cli.app import app
from foresee.cli.options import AsJson, Output, Plugin, emit
from foresee.core.errors import RequestError


@app.command("list")
def list_command(
    kind: Annotated[
        str, typer.Argument(help="tasks, objectives, backbones, metrics or studies; all of them by default.")
    ] = "",
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Shows what can be named in a spec, with its options."""
    from foresee.backbones.base import backbones
    from foresee.core.registry import nearest
    from foresee.core.spec import options_text
    from foresee.experiments.studies.base import studies
    from foresee.metrics.base import metrics
    from foresee.objectives.base import objectives
    from foresee.tasks.base import tasks

    registries: dict[str, Any] = {
        "tasks": tasks, "objectives": objectives, "backbones": backbones, "metrics": metrics,
        "studies": studies,
    }  # fmt: skip
    if kind and kind not in registries:
        raise RequestError(f"unknown kind {kind!r}: {nearest(kind, list(registries))}")
    chosen = {kind: registries[kind]} if kind else registries
    if as_json:
        listed: dict[str, dict[str, Any]] = {}
        for name, registry in chosen.items():
            classes = {entry: registry.get(entry) for entry in registry.names()}
            listed[name] = {key: {"summary": cls.summary, "options": options_text(cls)} for key, cls in classes.items()}
            if registry.wrapper is not None:
                wrapped = {"summary": registry.wrapper.summary, "options": options_text(registry.wrapper)}
                listed[name][f"every {registry.kind}"] = wrapped
            listed[name] |= {key: {"preset": spec} for key, spec in registry.presets().items()}
        emit(listed)
        return
    console = Output()
    for name, registry in chosen.items():
        shown = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for entry in registry.names():
            cls = registry.get(entry)
            options = ",".join(f"{key}={default}" for key, default in options_text(cls).items())
            shown.add_row(entry, f"{cls.summary}\n{options}" if options else cls.summary)
        if registry.wrapper is not None:
            options = ",".join(f"{key}={default}" for key, default in options_text(registry.wrapper).items())
            shown.add_row(f"every {registry.kind}", f"{registry.wrapper.summary}\n{options}")
        for entry, spec in registry.presets().items():
            shown.add_row(entry, f"preset for {spec}")
        console.print(shown, markup=False)
        console.print()
