"""``foresee generate``."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from foresee.cli.options import TaskSpec
from foresee.core.spec import resolve
from foresee.tasks.base import tasks
from foresee.tasks.example_files import write_examples
from foresee.training.data import draw


def command(
    task: TaskSpec,
    n: Annotated[int, typer.Option("-n", help="How many examples.")] = 1000,
    split: Annotated[Literal["train", "test"], typer.Option(help="Which split.")] = "train",
    seed: Annotated[int, typer.Option(help="Which stream of examples.")] = 0,
    form: Annotated[Literal["text", "jsonl"], typer.Option("--format", help="text is the paper's form.")] = "text",
    out: Annotated[Path | None, typer.Option(help="A file; standard output by default.")] = None,
) -> None:
    """Writes examples of a task."""
    resolved = resolve(tasks, task)
    built = resolved.build()
    write_examples(built, draw(built, resolved.text, split, n, seed), out or sys.stdout, form)
