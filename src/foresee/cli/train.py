"""``foresee train``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from foresee.cli.options import AsJson, Runs, TaskSpec, Track, emit, output
from foresee.cli.show import show_run
from foresee.core.errors import OtherProcessError
from foresee.core.memory import keep_large_blocks
from foresee.training.distributed import init_process_group
from foresee.training.loop import train
from foresee.training.progress import on_standard_error
from foresee.training.settings import Settings
from foresee.training.tracking import tracked


def command(
    task: TaskSpec,
    objective: Annotated[str, typer.Option(help="What to train; see foresee list objectives.")] = "next-token",
    *,
    settings: Any,
    runs: Runs = Path("runs"),
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Trains, measures and saves one run; the same command continues an interrupted one. Under torchrun, its processes
    share every batch (docs/many-runs.md)."""
    keep_large_blocks()
    world = init_process_group()
    try:
        asked = world.run_on_all(lambda: Settings.of(task, objective, processes=world.world_size, **settings))
        progress = world.run_on_all(lambda: tracked(on_standard_error(), track, runs) if world.is_main else None)
        run = train(asked, runs, progress)
    except OtherProcessError as error:
        if world.is_main:
            raise
        raise typer.Exit(error.status) from None
    if world.is_main:
        emit(run.json()) if as_json else show_run(run, output())
