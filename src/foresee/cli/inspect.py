"""``foresee inspect``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from foresee.cli.app import app
from foresee.cli.options import AsJson, Output, emit
from foresee.core.errors import RequestError


@app.command()
def inspect(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="As the task, as in notes.jsonl,prompt=question,response=answer (data: may lead)."
        ),
    ],
    bad: Annotated[int, typer.Option(min=0, help="How many bad rows to list.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Counts what is in a data set: rows, lengths, symbols, bad rows, duplicates, contradictions, overlap."""
    from foresee.core.spec import resolve
    from foresee.datasets.inspection import inspect as look
    from foresee.datasets.request import Request
    from foresee.tasks.base import tasks

    resolved = resolve(tasks, f"data:{data.removeprefix('data:')}")
    if resolved.name != "data":
        raise RequestError(f"{data} is not a data set")
    summary = look(Request.of({**resolved.options, "skip_bad": True}))
    if as_json:
        emit(summary.json())
        return
    console = Output()
    shown = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _lines(summary):
        shown.add_row(name, value)
    console.print(shown, markup=False)
    for example in summary.bad_examples[:bad]:
        console.print(f"bad: {example}", markup=False, soft_wrap=True)
    for name in ("duplicates", "contradictions", "overlap"):
        for example in getattr(summary, name).examples:
            texts = " / ".join(map(_short, example.responses))
            console.print(
                f"{name}: {'; '.join(example.places)}: {_short(example.prompt)} -> {texts}",
                markup=False,
                soft_wrap=True,
            )


def _lines(summary: Any) -> list[tuple[str, str]]:
    def lengths(quantiles: dict[str, int]) -> str:
        return ", ".join(f"{share} {length}" for share, length in quantiles.items())

    total = sum(summary.bad_rows.values())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(summary.bad_rows.items()))
    duplicates, differing, shared = summary.duplicates, summary.contradictions, summary.overlap
    return [
        ("rows", f"{summary.rows:,}: {summary.train_rows:,} for training, {summary.test_rows:,} for testing"),
        ("bad rows", f"{total:,}" + (f": {kinds}" if kinds else "")),
        ("prompt, tokens", lengths(summary.prompt_lengths)),
        ("response, tokens", lengths(summary.response_lengths)),
        ("symbols", f"{summary.symbols:,}; {summary.unknown:,} unknown tokens"),
        ("most frequent response", f"{summary.majority:.2%} of the rows"),
        ("duplicates", f"{duplicates.rows:,} rows repeat an earlier one"),
        ("contradictions", f"{differing.prompts:,} prompts have several responses, in {differing.rows:,} rows"),
        ("overlap", f"{shared.rows:,} rows have a prompt of the test file and are not trained on"),
    ]


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
