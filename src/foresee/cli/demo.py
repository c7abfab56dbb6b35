"""``foresee demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.options import Output


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for its runs and its page.")] = Path("foresee-demo"),
) -> None:
    """Shows the failure and its cures in a few minutes: next-token, reversed and teacherless training on path-star."""
    from foresee.experiments.demo import demo as show

    show(out, Output())
