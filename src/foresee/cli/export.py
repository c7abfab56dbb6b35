"""``foresee export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.options import Plugin


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The checkpoint folder to write; must not exist yet.")],
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Writes a finished run as a standard checkpoint folder that the transformers library loads."""
    from foresee.training.export import export as write
    from foresee.training.run import load

    print(write(load(run), out))
