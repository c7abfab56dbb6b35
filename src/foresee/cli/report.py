"""``foresee report``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import foresee
from foresee.cli.options import Runs


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN ...]", help="Runs or folders of runs; by default all in --runs."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", dir_okay=False, help="The page to write.")] = Path("report.html"),
    root: Runs = Path("runs"),
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also a study's table of what is finished; repeatable. Trains nothing."),
    ] = None,
    scale: Annotated[str, typer.Option(help="The scale of --study: laptop or paper.")] = "laptop",
    figures: Annotated[Path | None, typer.Option(help="Also write every figure there, as SVG and PDF.")] = None,
    tables: Annotated[Path | None, typer.Option(help="Also write every table there, as Markdown and LaTeX.")] = None,
) -> None:
    """Writes one self-contained page about runs, finished or not, and studies."""
    from foresee.experiments.studies.base import check_scale

    check_scale(scale)
    about = [*(runs or ()), *(foresee.study(name, scale, runs=root) for name in study or ())]

    def warn(sentence: str) -> None:
        print(sentence, file=sys.stderr)

    print(foresee.report(*about, out=out, runs=root, title=title, figures=figures, tables=tables, warn=warn))
