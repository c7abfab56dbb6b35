"""``foresee sweep``."""

from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.options import AsJson, Machines, Runs, Track, emit, output, redirect_workers


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file, or a Python file, which is executed.")],
    machines: Machines,
    runs: Runs = Path("runs"),
    track: Track = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all runs and show them; train none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Trains every run that a file lists; the same command continues an interrupted sweep."""
    from foresee.cli.display import show_finished, show_plan
    from foresee.experiments.runner import FailedRunsError, run_all, state, unfinished, unique
    from foresee.experiments.sweep import read_sweep
    from foresee.training.tracking import show_progress

    asked, engine = unique(read_sweep(file)), machines.make_engine()
    if dry_run:
        left = unfinished(asked, runs)
        plan = engine.plan(left) if left else "all runs are finished"
        listed = [{"run": each.digest, "state": state(each, runs), "command": each.command} for each in asked]
        emit({"runs": listed, "plan": plan}) if as_json else show_plan(listed, plan, output())
        return
    try:
        with redirect_workers():
            finished = run_all(asked, runs, engine=engine, progress=show_progress(True, track, runs))
    except FailedRunsError as error:
        if as_json:
            failed = [{"run": each.digest, "error": str(failure)} for each, failure in error.failed.items()]
            emit({"runs": [run.json() for run in error.finished], "failed": failed})
        raise
    emit({"runs": [run.json() for run in finished], "failed": []}) if as_json else show_finished(finished, output())
