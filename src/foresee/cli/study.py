"""``foresee study``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.engines import Address, Engine, EngineName, Threads, Workers
from foresee.cli.options import AsJson, Output, Plugin, Runs, Track, emit
from foresee.core.errors import RequestError


@app.command()
def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A study; see foresee list studies.")],
    scale: Annotated[str, typer.Option(help="laptop (two cores) or paper (published sizes, for a GPU).")] = "laptop",
    runs: Runs = Path("runs"),
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of committed runs that count as finished; repeatable. ./results by default."),
    ] = None,
    engine: Engine = EngineName.local,
    address: Address = None,
    workers: Workers = None,
    threads: Threads = None,
    track: Track = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be trained and what it costs, and train nothing.")
    ] = False,
    train: Annotated[
        bool,
        typer.Option("--train/--no-train", help="Train what is missing, or set beside each other what is finished."),
    ] = True,
    report: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Sets a published table beside a measured one: trains what is missing, always with the positive control."""
    from foresee.experiments.studies.run import plan, plan_json
    from foresee.experiments.studies.run import study as run_study
    from foresee.experiments.studies.show import show_plan, show_study

    if dry_run:
        if report is not None:
            raise RequestError("--dry-run writes no page; leave out --report, or train first")
        asked = plan(name, scale, runs, results)
        emit(plan_json(asked)) if as_json else show_plan(asked, Output())
        return
    from foresee.experiments.sweeps.mirrored import mirrored
    from foresee.experiments.sweeps.named import engine_named
    from foresee.experiments.sweeps.show import on_standard_error

    made = engine_named(engine.value, address, workers, threads, plugin)
    # Ray reports a lost worker on standard output, which is for results alone.
    with redirect_stdout(sys.stderr):
        result = run_study(
            name, scale, runs, results, engine=made, progress=mirrored(on_standard_error(), track, runs), train=train
        )
    if report is not None:
        from foresee.report import write_report

        write_report([], report, title=f"{result.name}, {scale} scale", studies=[result])
    emit(result.json()) if as_json else show_study(result, Output())
