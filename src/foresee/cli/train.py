"""``foresee train``."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import foresee
from foresee.cli.options import AsJson, ObjectiveOption, Runs, TaskSpec, Track, emit, output
from foresee.core.errors import OtherProcessError, RequestError
from foresee.core.isolation import keep_large_blocks

if TYPE_CHECKING:
    from foresee.training.run import Run


def command(
    task: TaskSpec,
    objective: ObjectiveOption = None,
    *,
    settings: Any,
    more_steps: Annotated[
        int | None, typer.Option(min=1, help="Train the finished run TASK for so many more steps, as a new run.")
    ] = None,
    runs: Runs = Path("runs"),
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Trains, measures and saves one run; the same command continues an interrupted one. Under torchrun, its processes
    share every batch (docs/many-runs.md)."""
    from foresee.training.distributed import init_process_group
    from foresee.training.loop import continue_run
    from foresee.training.tracking import show_progress

    keep_large_blocks()
    try:
        if more_steps is not None:
            if objective is not None:
                raise RequestError(f"--more-steps keeps the objective of {task}; leave out --objective")
            parent = _parent(task, runs, settings)
            # Beside it, unless another folder is named for its runs.
            root = parent.dir.parent if runs == Path("runs") else runs
            run = continue_run(parent, more_steps, root, show_progress(True, track, root))
        else:
            run = foresee.train(task, objective or "next-token", runs=runs, track=track, **settings)
    except OtherProcessError as error:
        if init_process_group().is_main:
            raise
        raise typer.Exit(error.status) from None
    if not init_process_group().is_main:
        return
    if as_json or find_spec("rich") is None:
        emit(run.json())
    else:
        from foresee.cli.display import show_run

        show_run(run, output())


def _parent(run: str, runs: Path, settings: dict[str, Any]) -> "Run":
    """The run that is continued, whose settings stay; ``data`` may say where its file lies now."""
    data = None
    for name, value in settings.items():
        if name != "data" or not value.startswith("file:"):
            raise RequestError(f"--more-steps keeps the settings of {run}; leave out --{name.replace('_', '-')}")
        data = value.removeprefix("file:")
    return foresee.load(run, runs, data)
