"""``foresee train``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from foresee import api
from foresee.cli.options import AsJson, Objective, Runs, TaskSpec, Track, emit, output
from foresee.core.errors import OtherProcessError
from foresee.core.memory import keep_large_blocks
from foresee.training.distributed import init_process_group


def command(
    task: TaskSpec,
    objective: Objective = "next-token",
    *,
    settings: Any,
    runs: Runs = Path("runs"),
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Trains, measures and saves one run; the same command continues an interrupted one. Under torchrun, its processes
    share every batch (docs/many-runs.md)."""
    keep_large_blocks()
    try:
        run = api.train(task, objective, runs=runs, track=track, **settings)
    except OtherProcessError as error:
        if init_process_group().is_main:
            raise
        raise typer.Exit(error.status) from None
    if not init_process_group().is_main:
        return
    if as_json or find_spec("rich") is None:
        emit(run.json())
    else:
        from foresee.cli.display import show_run

        show_run(run, output())
