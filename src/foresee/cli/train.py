"""``foresee train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.options import AsJson, Output, Plugin, Runs, TaskSpec, Track, emit
from foresee.cli.settings import Settings, with_settings


@app.command()
@with_settings
def train(
    task: TaskSpec,
    objective: Annotated[str, typer.Option(help="What to train; see foresee list objectives.")] = "next-token",
    *,
    settings: Settings,
    seed: Annotated[int, typer.Option(help="Of weights, training examples and their order.")] = 0,
    runs: Runs = Path("runs"),
    track: Track = None,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Trains, measures and saves one run; the same command continues an interrupted one. Under torchrun, its processes
    share every batch (docs/parallel.md)."""
    from foresee.cli.show import show_run
    from foresee.training.distributed import OtherProcessError, joined
    from foresee.training.loop import train as train_spec
    from foresee.training.progress import on_standard_error
    from foresee.training.settings import Settings
    from foresee.training.tracking import tracked

    world = joined()
    try:
        spec = world.agreed(lambda: Settings.of(task, objective, seed=seed, processes=world.size, **settings.named()))
        progress = world.agreed(lambda: tracked(on_standard_error(), track, runs) if world.leads else None)
        run = train_spec(spec, runs, progress)
    except OtherProcessError as error:
        if world.leads:
            raise
        raise typer.Exit(error.status) from None
    if world.leads:
        emit(run.json()) if as_json else show_run(run, Output())
