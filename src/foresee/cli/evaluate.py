"""``foresee evaluate``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.options import AsJson, RunFolder, emit, output
from foresee.cli.show import show_run
from foresee.training.evaluate import evaluate
from foresee.training.run import load


def command(
    run: RunFolder,
    data: Annotated[Path | None, typer.Option(help="A file of examples, instead of the run's test examples.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measures a finished run again."""
    loaded = load(run)
    measured = dataclasses.replace(loaded, rows=evaluate(loaded, data))
    emit(measured.json()) if as_json else show_run(measured, output())
