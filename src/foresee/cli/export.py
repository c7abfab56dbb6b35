"""``foresee export``."""

from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.options import RunFolder
from foresee.training.export import export
from foresee.training.run import load


def command(
    run: RunFolder,
    out: Annotated[Path, typer.Option("-o", "--out", help="The checkpoint folder to write; must not exist yet.")],
) -> None:
    """Writes a finished run as a standard checkpoint folder that the transformers library loads."""
    print(export(load(run), out))
