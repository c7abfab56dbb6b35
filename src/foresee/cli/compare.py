"""``foresee compare``."""

from pathlib import Path
from typing import Annotated, Any

import typer

import foresee
from foresee.cli.options import (
    AsJson,
    Machines,
    Page,
    Runs,
    TaskSpec,
    Track,
    complete_specs,
    emit,
    output,
    redirect_workers,
)


def command(
    task: TaskSpec,
    objective: Annotated[
        str, typer.Option("--objectives", help="Specs joined by commas.", autocompletion=complete_specs("objectives"))
    ],
    *,
    settings: Any,
    machines: Machines,
    seed: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds each, from 0.")] = 3,
    runs: Runs = Path("runs"),
    track: Track = None,
    report: Page = None,
    as_json: AsJson = False,
) -> None:
    """Trains objectives on one task over seeds, always with the positive control (reversed)."""
    from foresee.cli.display import show_comparison

    with redirect_workers():
        compared = foresee.compare(
            task, objective, seeds=seed, runs=runs, engine=machines.make_engine(), track=track, **settings
        )
    if report is not None:
        foresee.report(compared, out=report)
    emit(compared.json()) if as_json else show_comparison(compared, output())
