"""``foresee new``."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="objective, task, backbone or metric.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What specs will call it, as in my-idea.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder for the file.")] = Path(),
) -> None:
    """Writes a plug-in file to begin with: commented, with its test, and running as it is."""
    from foresee.experiments.scaffold import write_plugin

    path = write_plugin(kind, name, out)
    print(path)
    print(f"Its test: python {path}. Every command takes it by --plugin {path}; the file begins with what to try.")
