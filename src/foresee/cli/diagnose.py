"""``foresee diagnose``."""

from pathlib import Path
from typing import Annotated

import typer

import foresee
from foresee.cli.options import (
    AnswerField,
    AsJson,
    BackboneOption,
    Jobs,
    PromptField,
    Template,
    TestData,
    emit,
    output,
)
from foresee.core.isolation import keep_large_blocks


def command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file of prompts and answers, or a task spec.")],
    *,
    prompt: PromptField = "prompt",
    answer: AnswerField = "answer",
    template: Template = None,
    tokenizer: Annotated[
        str, typer.Option(help="auto, characters, bytes, words or hf:CHECKPOINT, where DATA is a file.")
    ] = "auto",
    test_file: TestData = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be read.")] = False,
    minutes: Annotated[float, typer.Option(help="The time that all of it may take.")] = 10.0,
    steps: Annotated[int | None, typer.Option(help="Steps of every run, in place of --minutes.")] = None,
    objectives: Annotated[str, typer.Option(help="More objectives, beside next-token, reversed and teacherless.")] = "",
    backbone: BackboneOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each, from 0.")] = 2,
    batch: Annotated[int, typer.Option("--batch", help="Rows a step.")] = 128,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate: 0.002, or 0.00001 on a checkpoint, by default.")
    ] = None,
    jobs: Jobs = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", file_okay=False, help="The folder for the page, the rows and the runs.")
    ] = Path("diagnosis"),
    as_json: AsJson = False,
) -> None:
    """Says whether next-token training would cheat on a data set, where, and which objective learns the decisions."""
    from foresee.experiments.diagnose.result import show_diagnosis

    keep_large_blocks()
    found = foresee.diagnose(
        data, prompt=prompt, answer=answer, template=template, tokenizer=tokenizer, test_file=test_file,
        skip_bad=skip_bad, minutes=minutes, steps=steps, objectives=objectives, backbone=backbone, seeds=seeds,
        batch=batch, lr=lr, jobs=jobs, out=out,
    )  # fmt: skip
    emit(found.json()) if as_json else show_diagnosis(found, output())
