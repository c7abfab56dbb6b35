"""``foresee diagnose``."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from foresee.cli.options import AsJson, Jobs, emit, output
from foresee.core.memory import keep_large_blocks
from foresee.core.spec import split_list
from foresee.experiments.diagnose import DiagnosisSettings, diagnose, read_task
from foresee.experiments.diagnose.result import show_diagnosis
from foresee.experiments.progress import show_runs
from foresee.report.diagnosis import write_page

CHECKPOINT = "hf:"
SCRATCH_RATE, CHECKPOINT_RATE = 2e-3, 1e-5


def command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file of prompts and responses, or a task spec.")],
    *,
    prompt: Annotated[str, typer.Option(help="The field of the prompts, where DATA is a file.")] = "prompt",
    response: Annotated[str, typer.Option(help="The field of the responses.")] = "response",
    tokenizer: Annotated[
        str, typer.Option(help="auto, characters, bytes, words or hf:CHECKPOINT, where DATA is a file.")
    ] = "auto",
    test: Annotated[str | None, typer.Option(help="A file of held-out rows; by default one prompt in eight.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be read.")] = False,
    minutes: Annotated[float, typer.Option(help="The time that all of it may take.")] = 10.0,
    steps: Annotated[int | None, typer.Option(help="Steps of every run, in place of --minutes.")] = None,
    objectives: Annotated[
        str | None, typer.Option(help="More objectives, beside next-token, reversed and teacherless.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="A preset or spec; a small Transformer by default.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each, from 0.")] = 2,
    batch: Annotated[int, typer.Option("--batch", help="Rows a step.")] = 128,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate: 0.002, or 0.00001 on a checkpoint, by default.")
    ] = None,
    jobs: Jobs = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder for the page, the rows and the runs.")] = Path(
        "diagnosis"
    ),
    as_json: AsJson = False,
) -> None:
    """Says whether next-token training would cheat on a data set, where, and which objective learns the decisions."""
    began = time.perf_counter()
    keep_large_blocks()
    checkpoint = None
    if backbone is not None and backbone.startswith(CHECKPOINT):
        checkpoint = backbone.removeprefix(CHECKPOINT).split(",")[0]
    console = Console(stderr=True)

    def say(said: str) -> None:
        used = f"{(time.perf_counter() - began) / 60:.1f}"
        limit = f" of {minutes:g}" if steps is None else ""
        console.print(f"[{used}{limit} minutes] {said}", markup=False, highlight=False, soft_wrap=True)

    say("reading the data")
    task = read_task(
        data, prompt=prompt, response=response, tokenizer=tokenizer, test=test, skip_bad=skip_bad, checkpoint=checkpoint
    )
    rate = (SCRATCH_RATE if checkpoint is None else CHECKPOINT_RATE) if lr is None else lr
    asked = DiagnosisSettings.of(
        task, others=split_list(objectives) if objectives else (), backbone=backbone, seeds=seeds, minutes=minutes,
        steps=steps, batch=batch, lr=rate,
    )  # fmt: skip
    found = diagnose(asked, task, out, jobs=jobs, progress=show_runs(), say=say, began=began)
    page = write_page(found, out / "diagnosis.html")
    say(f"done: {page}")
    emit(found.json()) if as_json else show_diagnosis(found, page, output())
