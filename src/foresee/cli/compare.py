"""``foresee compare``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from foresee.backbones.base import backbones
from foresee.cli.options import AsJson, Jobs, Page, Runs, TaskSpec, Track, emit, output
from foresee.cli.show import show_groups
from foresee.core.spec import brief, split_list
from foresee.experiments.compare import compare
from foresee.experiments.progress import show_runs
from foresee.tasks.base import tasks
from foresee.training.settings import Settings


def command(
    task: TaskSpec,
    objective: Annotated[str, typer.Option("--objectives", help="Specs joined by commas.")],
    *,
    settings: Any,
    seed: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds each, from 0.")] = 3,
    jobs: Jobs = None,
    runs: Runs = Path("runs"),
    track: Track = None,
    report: Page = None,
    as_json: AsJson = False,
) -> None:
    """Trains objectives on one task over seeds, always with the positive control (reversed)."""
    chosen = split_list(objective)
    asked = Settings.of(task, chosen[0], **settings)
    groups = compare(asked, chosen, seed, runs, jobs=jobs, progress=show_runs(track, runs))
    if report is not None:
        from foresee.report import write_report

        write_report([run.dir for group in groups for run in group.runs], report)
    if as_json:
        emit({"task": asked.task, "backbone": asked.backbone, "groups": [group.json() for group in groups]})
    else:
        show_groups(groups, f"{brief(tasks, asked.task)} with {brief(backbones, asked.backbone)}", output())
