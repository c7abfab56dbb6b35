"""``foresee generate``."""

import io
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from foresee.cli.options import TaskSpec
from foresee.core.errors import RequestError
from foresee.core.spec import resolve


def command(
    task: TaskSpec,
    n: Annotated[int, typer.Option("-n", help="How many examples.")] = 1000,
    split: Annotated[Literal["train", "test"] | None, typer.Option(help="Which split; train by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Which stream of examples.")] = 0,
    form: Annotated[
        Literal["text", "jsonl", "lm-eval"],
        typer.Option("--format", help="text is the paper's form; lm-eval is a folder for that harness."),
    ] = "text",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A file, for lm-eval a folder; standard output by default.")
    ] = None,
) -> None:
    """Writes examples of a task."""
    from foresee.tasks.base import tasks
    from foresee.tasks.data import Data
    from foresee.tasks.example_files import write_examples
    from foresee.tasks.harness import SHOTS, write_harness_task
    from foresee.training.data import draw

    resolved = resolve(tasks, task)
    built = resolved.build()
    if form == "lm-eval":
        if out is None or isinstance(built, Data):
            what = "needs a folder: -o DIR" if out is None else "is for tasks that draw their examples"
            raise RequestError(f"--format lm-eval {what}")
        if split is not None:
            raise RequestError(f"--format lm-eval holds test rows, with train rows as shots; leave out --split {split}")
        test, shots = (draw(built, resolved.text, *asked, seed) for asked in (("test", n), ("train", SHOTS)))
        write_harness_task(built, resolved.text, test, shots, out)
        return
    if isinstance(sys.stdout, io.TextIOWrapper):  # data are UTF-8 wherever they go
        sys.stdout.reconfigure(encoding="utf-8")
    write_examples(built, draw(built, resolved.text, split or "train", n, seed), out or sys.stdout, form)
