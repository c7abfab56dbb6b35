"""``foresee generate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.app import app
from foresee.cli.options import FileFormat, Plugin, Split, TaskSpec


@app.command()
def generate(
    task: TaskSpec,
    n: Annotated[int, typer.Option("-n", help="How many examples.")] = 1000,
    split: Annotated[Split, typer.Option(help="Which split.")] = Split.train,
    seed: Annotated[int, typer.Option(help="Which stream of examples.")] = 0,
    file_format: Annotated[FileFormat, typer.Option("--format", help="text is the paper's form.")] = FileFormat.text,
    out: Annotated[Path | None, typer.Option(help="A file; standard output by default.")] = None,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Writes examples of a task."""
    from foresee.core.spec import resolve
    from foresee.tasks.base import tasks
    from foresee.training.data import draw, write_examples

    resolved = resolve(tasks, task)
    built = resolved.build()
    write_examples(built, draw(built, resolved.text, split.value, n, seed), out or sys.stdout, file_format.value)
