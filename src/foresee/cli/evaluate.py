"""``foresee evaluate``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.options import AsJson, RunFolder, emit, output
from foresee.cli.show import show_run
from foresee.core.errors import RequestError
from foresee.training.evaluate import evaluate, keep_rows
from foresee.training.run import load


def command(
    run: RunFolder,
    data: Annotated[Path | None, typer.Option(help="A file of examples, instead of the run's test examples.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep what is new: rows of metrics added since it ran.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measures a finished run again."""
    if save and data is not None:
        raise RequestError("--save keeps measurements of the run's own test examples, not of --data; leave one out")
    loaded = load(run)
    measured = dataclasses.replace(loaded, rows=evaluate(loaded, data))
    if save:
        keep_rows(loaded, measured.rows)
    emit(measured.json()) if as_json else show_run(measured, output())
