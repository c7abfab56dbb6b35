"""``foresee runs``."""

from pathlib import Path
from typing import Annotated

import typer

import foresee
from foresee.cli.options import AsJson, emit, output
from foresee.core.errors import RequestError
from foresee.core.registry import nearest


def command(
    roots: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN ...]", help="Folders of runs, or runs by name; runs by default."),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="A condition, as in exact>=0.95 or task.degree=2; may be repeated.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="The column to sort by.")] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Largest first.")] = False,
    columns: Annotated[str | None, typer.Option(help="Columns to show, joined by commas; all: every one.")] = None,
    csv: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write every column as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write every column as Parquet.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write the columns shown as a Markdown table.")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write the columns shown as a LaTeX table.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists, filters, sorts and exports runs, finished and unfinished."""
    from foresee.cli.display import show_records
    from foresee.training.run_table import table_records, telling_columns, write_table

    table = foresee.runs(*(roots or ()), where=where or (), sort=sort, descending=descending)
    records, known = table_records(table), list(table.columns)
    usual = [name for name in telling_columns(records) if name in known]
    wanted = known if columns == "all" else columns.split(",") if columns else usual
    for name in wanted:
        if records and name not in known:
            raise RequestError(f"--columns: no run has a column {name!r}; {nearest(name, known)}")
    shown = table[[name for name in wanted if name in known]]
    if {"verdict", "inconclusive"} <= {*known} and "verdict" in shown:
        doubted = table["inconclusive"].map(lambda doubt: " (inconclusive)" if doubt is True else "")
        shown = shown.assign(verdict=table["verdict"].astype(object) + doubted)
    for path, form, written in (
        (csv, "csv", table), (parquet, "parquet", table), (markdown, "md", shown), (latex, "tex", shown),
    ):  # fmt: skip
        if path is not None:
            write_table(written, path, form)
    if as_json:
        emit({"runs": records})
    else:
        show_records(records, wanted, output(), brief_columns=columns is None)
