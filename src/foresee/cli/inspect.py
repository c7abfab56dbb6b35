"""``foresee inspect``."""

from typing import Annotated

import typer

from foresee.cli.options import AnswerField, AsJson, PromptField, Template, TestData, emit, output
from foresee.core.errors import RequestError
from foresee.core.spec import resolve, write_value


def command(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="As the task, as in notes.jsonl,prompt=question,answer=reply (data: may lead)."
        ),
    ],
    prompt: PromptField = "",
    answer: AnswerField = "",
    template: Template = None,
    test_file: TestData = None,
    bad: Annotated[int, typer.Option(min=0, help="How many bad rows to list.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Counts what is in a data set: rows, lengths, symbols, bad rows, duplicates, contradictions, overlap."""
    from foresee.cli.display import show_data
    from foresee.datasets.inspection import inspect
    from foresee.datasets.request import Request
    from foresee.tasks.base import tasks

    given = {"prompt": prompt, "answer": answer, "template": template, "test_file": test_file}
    more = "".join(f",{name}={write_value(value)}" for name, value in given.items() if value)
    resolved = resolve(tasks, f"data:{data.removeprefix('data:')}{more}")
    if resolved.name != "data":
        raise RequestError(f"{data} is not a data set")
    summary = inspect(Request.of({**resolved.options, "skip_bad": True}))
    emit(summary.json()) if as_json else show_data(summary, bad, output())
