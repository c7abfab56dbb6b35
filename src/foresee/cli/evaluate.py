"""``foresee evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

import foresee
from foresee.cli.options import AsJson, RunArgument, Runs, emit, output


def command(
    run: RunArgument,
    data: Annotated[
        Path | None,
        typer.Option(help="A file of examples, instead of the run's test examples; or where the run's own lie now."),
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep what is new: rows of metrics added since it ran.")] = False,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Measures a finished run again."""
    from foresee.cli.display import show_run

    measured = foresee.evaluate(run, data, save=save, runs=runs)
    emit(measured.json()) if as_json else show_run(measured, output())
