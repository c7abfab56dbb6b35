"""``foresee bench``."""

from typing import Annotated

import typer

from foresee.cli.options import AsJson, emit, output
from foresee.core.isolation import keep_large_blocks


def command(
    task: Annotated[str, typer.Option(help="A task's spec.")] = "path-star",
    backbone: Annotated[str, typer.Option(help="A preset or spec.")] = "transformer:layers=6,width=384,heads=6",
    objective: Annotated[str, typer.Option(help="An objective's spec.")] = "next-token",
    batch: Annotated[int, typer.Option("--batch", help="Examples a step.")] = 256,
    as_json: AsJson = False,
) -> None:
    """Measures speed on this machine: examples a second, and the share of its matrix-product rate."""
    from foresee.experiments.bench import bench, show

    keep_large_blocks()
    measured = bench(task=task, backbone=backbone, objective=objective, batch=batch)
    emit(measured) if as_json else show(measured, output())
