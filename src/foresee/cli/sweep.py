"""``foresee sweep``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foresee.cli.app import app
from foresee.cli.engines import Address, Engine, EngineName, Threads, Workers
from foresee.cli.options import AsJson, Output, Plugin, Runs, Track, emit

if TYPE_CHECKING:
    from foresee.experiments.sweeps.engine import Engine as MadeEngine
    from foresee.training.settings import Settings


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file, or a Python file, which is executed.")],
    engine: Engine = EngineName.local,
    address: Address = None,
    runs: Runs = Path("runs"),
    workers: Workers = None,
    threads: Threads = None,
    track: Track = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all runs and show them; train none.")] = False,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Trains every run that a file lists; the same command continues an interrupted sweep."""
    from foresee.experiments.sweeps import SweepError, run_all
    from foresee.experiments.sweeps.mirrored import mirrored
    from foresee.experiments.sweeps.named import engine_named
    from foresee.experiments.sweeps.run_all import different
    from foresee.experiments.sweeps.show import on_standard_error, show_runs
    from foresee.experiments.sweeps.sweep_file import read_sweep

    specs = different(read_sweep(file))
    made = engine_named(engine.value, address, workers, threads, plugin)
    if dry_run:
        _show_plan(specs, runs, made, as_json)
        return
    try:
        # Ray reports a lost worker on standard output, which is for results alone.
        with redirect_stdout(sys.stderr):
            finished = run_all(specs, runs, engine=made, progress=mirrored(on_standard_error(), track, runs))
    except SweepError as error:
        if as_json:
            failed = [{"run": each.spec.digest, "error": str(each.failure)} for each in error.failed]
            emit({"runs": [run.json() for run in error.finished], "failed": failed})
        raise
    if as_json:
        emit({"runs": [run.json() for run in finished], "failed": []})
        return
    show_runs(finished, Output())


def _show_plan(specs: list[Settings], root: Path, engine: MadeEngine, as_json: bool) -> None:
    """What would be done, once all of it is checked."""

    from foresee.experiments.sweeps.run_all import jobs_of, state

    jobs = jobs_of(specs, root)
    plan = engine.plan(jobs) if jobs else "all runs are finished"
    if as_json:
        listed: list[dict[str, Any]] = [
            {"run": spec.digest, "state": state(spec, root), "command": spec.command} for spec in specs
        ]
        emit({"runs": listed, "plan": plan})
        return
    console = Output()
    for spec in specs:
        console.print(
            f"{spec.digest}  {state(spec, root):<9} {spec.command}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f"{len(specs)} runs; {plan}", markup=False, highlight=False, soft_wrap=True)
