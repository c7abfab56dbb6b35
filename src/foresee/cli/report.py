"""``foresee report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.options import Plugin, Runs
from foresee.errors import RequestError


@app.command()
def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN ...]", help="Run directories; all in --runs by default.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The page to write.")] = Path("report.html"),
    root: Runs = Path("runs"),
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Writes one self-contained page about finished runs."""
    from foresee.report import write_report

    chosen = runs or sorted(path.parent for path in root.glob("*/spec.json"))
    if not chosen:
        raise RequestError(f"{root} holds no runs; name some, or train one first")
    print(write_report(chosen, out, title=title))
