"""``foresee bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.options import AsJson, Backbone, BatchSize, Output, Plugin, emit


@app.command()
def bench(
    task: Annotated[str, typer.Option(help="A task's spec.")] = "path-star:degree=2,length=5,nodes=50",
    backbone: Backbone = "transformer:layers=6,width=384,heads=6",
    objective: Annotated[str, typer.Option(help="An objective's spec.")] = "next-token",
    batch: BatchSize = 256,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Measures speed on this machine: examples a second, and the share of its matrix-product rate."""
    from foresee.experiments.bench import bench as measure
    from foresee.experiments.bench import show

    measured = measure(task=task, backbone=backbone, objective=objective, batch=batch)
    emit(measured) if as_json else show(measured, Output())
