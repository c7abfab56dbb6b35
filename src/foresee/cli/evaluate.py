"""``foresee evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.options import AsJson, Output, Plugin, emit


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.")],
    data: Annotated[Path | None, typer.Option(help="A file of examples, instead of the run's test examples.")] = None,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Measures a finished run again."""
    import dataclasses

    from foresee.cli.show import show_run
    from foresee.training.evaluate import evaluate as measure
    from foresee.training.run import load

    loaded = load(run)
    measured = dataclasses.replace(loaded, rows=measure(loaded, data))
    emit(measured.json()) if as_json else show_run(measured, Output())
