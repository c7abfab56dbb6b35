"""``foresee export``."""

from pathlib import Path
from typing import Annotated

import typer

import foresee
from foresee.cli.options import RunArgument, Runs


def command(
    run: RunArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The checkpoint folder to write; must not exist yet.")],
    runs: Runs = Path("runs"),
) -> None:
    """Writes a finished run as a standard checkpoint folder that the transformers library loads."""
    print(foresee.export(run, out, runs=runs))
