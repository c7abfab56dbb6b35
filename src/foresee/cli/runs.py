"""``foresee runs``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from foresee.cli.app import app
from foresee.cli.options import AsJson, Output, Plugin, emit
from foresee.core.errors import RequestError


@app.command()
def runs(
    roots: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER ...]", help="Folders that hold runs; runs by default.")
    ] = None,
    where: Annotated[
        list[str], typer.Option(help="A condition, as in exact>=0.95 or task.degree=2; may be repeated.")
    ] = [],  # noqa: B006  # typer copies it
    sort: Annotated[str | None, typer.Option(help="The column to sort by.")] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Largest first.")] = False,
    columns: Annotated[str | None, typer.Option(help="Columns to show, joined by commas; all: every one.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write every column as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Also write every column as Parquet.")] = None,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Lists, filters, sorts and exports runs, finished and unfinished."""
    from foresee.core.registry import nearest
    from foresee.training.run import find_runs
    from foresee.training.run_table import SHOWN, filter_runs, runs_table, sort_runs, table_records, write_table

    table = filter_runs(runs_table(find_runs(*(roots or [Path("runs")]))), where)
    if sort is not None:
        table = sort_runs(table, sort, descending=descending)
    records, known = table_records(table), list(table.columns)
    wanted = known if columns == "all" else columns.split(",") if columns else [name for name in SHOWN if name in known]
    for name in wanted:
        if records and name not in known:
            raise RequestError(f"--columns: no run has a column {name!r}; {nearest(name, known)}")
    for path, form in ((csv, "csv"), (parquet, "parquet")):
        if path is not None:
            write_table(table, path, form)
    if as_json:
        emit({"runs": records})
        return
    console = Output()
    cells = {name: _column(name, [record.get(name) for record in records]) for name in wanted}
    if columns is None and len(records) > 1:
        for name in COMMON:
            if len(set(cells.get(name, ("", "-")))) == 1:
                console.print(f"{name}: {cells.pop(name)[0]}", markup=False, highlight=False, soft_wrap=True)
    shown = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    for name in cells:
        shown.add_column(name, overflow="fold", no_wrap=name not in COMMON)
    for row in zip(*cells.values(), strict=True):
        shown.add_row(*row)
    console.print(shown)
    console.print(f"{len(records)} run{'s' * (len(records) != 1)}", highlight=False)


COMMON = ("state", "task", "objective", "backbone")
"""Columns that are said once, above the table, where all runs agree on them."""


def _column(name: str, values: Sequence[Any]) -> list[str]:
    """Cells for a terminal: rates to three places, specs by what tells them apart."""
    from foresee.training.run_table import without_common

    if name in COMMON[1:] and None not in values:
        short = [_brief(name, value) for value in values]
        return short if len(set(short)) == 1 else without_common(short)
    return ["-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]


def _brief(kind: str, spec: str) -> str:
    from foresee.backbones.base import backbones
    from foresee.core.spec import brief
    from foresee.objectives.base import objectives
    from foresee.tasks.base import tasks

    registries: dict[str, Any] = {"task": tasks, "objective": objectives, "backbone": backbones}
    try:
        return brief(registries[kind], spec)
    except RequestError:  # of a plug-in that was not named: its full spec will do
        return spec
