"""``foresee study``."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.options import AsJson, Machines, Page, Runs, Track, emit, output
from foresee.core.errors import RequestError
from foresee.experiments.progress import show_runs
from foresee.experiments.studies.run import plan, study
from foresee.experiments.studies.show import show_plan, show_study


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A study; see foresee list studies.")],
    machines: Machines,
    scale: Annotated[str, typer.Option(help="laptop (two cores) or paper (published sizes, for a GPU).")] = "laptop",
    runs: Runs = Path("runs"),
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of committed runs that count as finished; repeatable. ./results by default."),
    ] = None,
    track: Track = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be trained and what it costs, and train nothing.")
    ] = False,
    train: Annotated[
        bool,
        typer.Option("--train/--no-train", help="Train what is missing, or set beside each other what is finished."),
    ] = True,
    report: Page = None,
    as_json: AsJson = False,
) -> None:
    """Sets a published table beside a measured one: trains what is missing, always with the positive control."""
    if dry_run:
        if report is not None:
            raise RequestError("--dry-run writes no page; leave out --report, or train first")
        asked = plan(name, scale, runs, results)
        emit(asked.json()) if as_json else show_plan(asked, output())
        return
    engine = machines.make_engine()
    # Ray reports a lost worker on standard output, which is for results alone.
    with redirect_stdout(sys.stderr):
        result = study(name, scale, runs, results, engine=engine, progress=show_runs(track, runs), train=train)
    if report is not None:
        from foresee.report import write_report

        write_report([], report, title=f"{result.name}, {scale} scale", studies=[result])
    emit(result.json()) if as_json else show_study(result, output())
