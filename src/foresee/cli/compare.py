"""``foresee compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.options import AsJson, Output, Plugin, Runs, TaskSpec, Track, emit
from foresee.cli.settings import Settings, with_settings


@app.command()
@with_settings
def compare(
    task: TaskSpec,
    names: Annotated[str, typer.Option("--objectives", help="Specs joined by commas.")],
    *,
    settings: Settings,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each, from 0.")] = 3,
    runs: Runs = Path("runs"),
    track: Track = None,
    report: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Trains objectives on one task over seeds, always with the positive control (reversed)."""
    from foresee.backbones.base import backbones
    from foresee.cli.show import show_groups
    from foresee.core.spec import brief, split_list
    from foresee.experiments.compare import compare as run_all
    from foresee.tasks.base import tasks
    from foresee.training.progress import on_standard_error
    from foresee.training.settings import Settings
    from foresee.training.tracking import tracked

    chosen = split_list(names)
    spec = Settings.of(task, chosen[0], **settings.named())
    groups = run_all(spec, chosen, seeds, runs, tracked(on_standard_error(), track, runs))
    if report is not None:
        from foresee.report import write_report

        write_report([run.dir for group in groups for run in group.runs], report)
    if as_json:
        emit({"task": spec.task, "backbone": spec.backbone, "groups": [group.json() for group in groups]})
    else:
        show_groups(groups, f"{brief(tasks, spec.task)} with {brief(backbones, spec.backbone)}", Output())
