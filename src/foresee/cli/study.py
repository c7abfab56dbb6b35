"""``foresee study``."""

from pathlib import Path
from typing import Annotated

import typer

import foresee
from foresee.cli.options import AsJson, Machines, Page, Runs, Track, complete_specs, emit, output, redirect_workers
from foresee.core.errors import RequestError

EVERY = "all"


def command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A study (foresee list studies), or all.", autocompletion=complete_specs("studies")
        ),
    ],
    machines: Machines,
    scale: Annotated[str, typer.Option(help="laptop (two cores) or paper (published sizes, for a GPU).")] = "laptop",
    runs: Runs = Path("runs"),
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of finished runs that count; repeatable. By default those that came with foresee."),
    ] = None,
    track: Track = None,
    train: Annotated[bool, typer.Option("--train", help="Train what is missing first.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what --train would train, and what each run costs.")
    ] = False,
    report: Page = None,
    as_json: AsJson = False,
) -> None:
    """Sets a published table beside the measured one; trains nothing unless asked to. "all" shows the state of every
    cell of every study, and with --train trains what is missing, the cheapest and most telling first."""
    from foresee.experiments.studies.run import plan, plan_every, read, train_missing
    from foresee.experiments.studies.show import show_every, show_plan, show_study
    from foresee.training.tracking import show_progress

    every, engine = name == EVERY, machines.make_engine()
    if report is not None and (every or dry_run):
        raise RequestError(f"{'study all' if every else '--dry-run'} writes no page; name one study with --report")
    plans, refused = plan_every(scale, runs, results) if every else ([plan(name, scale, runs, results)], [])
    if train and not dry_run:
        with redirect_workers():
            train_missing(plans, runs, engine=engine, progress=show_progress(True, track, runs))
    if every:
        emit({"studies": [read(each).json() for each in plans]}) if as_json else show_every(plans, output())
    elif dry_run:
        emit(plans[0].json()) if as_json else show_plan(plans[0], output())
    else:
        result = read(plans[0])
        if report is not None:
            foresee.report(result, out=report, title=f"{result.name}, {result.scale} scale")
        emit(result.json()) if as_json else show_study(result, output())
    for sentence in refused:
        typer.echo(f"left out: {sentence}", err=True)
