"""``foresee sweep``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.options import (
    Address,
    AsJson,
    Engine,
    Jobs,
    Runs,
    SlurmOptions,
    Threads,
    Track,
    emit,
    output,
)  # fmt: skip
from foresee.cli.show import show_finished, show_plan
from foresee.experiments.engine import make_engine
from foresee.experiments.progress import show_runs
from foresee.experiments.runner import FailedRunsError, run_all, state, unfinished, unique
from foresee.experiments.sweep import read_sweep


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file, or a Python file, which is executed.")],
    engine: Engine = "local",
    address: Address = None,
    slurm: SlurmOptions = None,
    runs: Runs = Path("runs"),
    jobs: Jobs = None,
    threads: Threads = None,
    track: Track = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all runs and show them; train none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Trains every run that a file lists; the same command continues an interrupted sweep."""
    asked = unique(read_sweep(file))
    made = make_engine(engine, jobs=jobs, threads=threads, address=address, slurm=slurm or ())
    if dry_run:
        left = unfinished(asked, runs)
        plan = made.plan(left) if left else "all runs are finished"
        listed = [{"run": each.digest, "state": state(each, runs), "command": each.command} for each in asked]
        emit({"runs": listed, "plan": plan}) if as_json else show_plan(listed, plan, output())
        return
    try:
        # Ray reports a lost worker on standard output, which is for results alone.
        with redirect_stdout(sys.stderr):
            finished = run_all(asked, runs, engine=made, progress=show_runs(track, runs))
    except FailedRunsError as error:
        if as_json:
            failed = [{"run": each.digest, "error": str(failure)} for each, failure in error.failed.items()]
            emit({"runs": [run.json() for run in error.finished], "failed": failed})
        raise
    emit({"runs": [run.json() for run in finished], "failed": []}) if as_json else show_finished(finished, output())
