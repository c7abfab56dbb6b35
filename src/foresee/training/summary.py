"""A run for a reader: two lines of text, a table for a notebook, and what would settle its verdict."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from foresee.core.errors import RequestError
from foresee.core.spec import shorten
from foresee.metrics.base import Row, Rows
from foresee.metrics.control import Circumstances, find_remedies
from foresee.metrics.verdict import plain_words
from foresee.training.run import Run
from foresee.training.settings import Settings, part_registries

TONES = {
    "solved": "green", "clever-hans": "red", "memorised": "red", "undecided": "magenta", "compounding": "yellow",
    "unfitted": "yellow", "partial": "yellow", "open-ended": "blue",
}  # fmt: skip
"""The colour of each verdict."""


def list_measurements(rows: Rows) -> Iterator[tuple[str, Row]]:
    """Every measurement by name; those of a list row as ``forced[2]``, by place or by distance."""
    for name, row in rows.items():
        if isinstance(row, list):
            yield from ((f"{name}[{one.get('distance', place)}]", one) for place, one in enumerate(row))
        else:
            yield name, row


def interval_of(row: Row) -> str:
    """Its interval, or the number that it is set beside; empty where it has neither."""
    if "reference" in row:
        return f"beside {row['reference']:.4f}"
    return f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else ""


def describe_run(run: Run) -> str:
    """What was run, and what came of it."""
    asked = f"{_shorten(run, 'objective')} on {_shorten(run, 'task')} with {_shorten(run, 'backbone')}"
    return f"{asked}, seed {run.spec.seed}: {run.steps:,} steps, {run.seconds:.0f} s\n{_outcome(run)}; {run.dir}"


def run_html(run: Run) -> str:
    """A table of its measurements below what it was and its verdict."""
    said = html.escape(describe_run(run)).replace("\n", "<br>")
    if not run.rows:
        return said
    try:
        tone, words = TONES[run.verdict.name], plain_words(run.verdict)
    except RequestError as error:
        tone, words = "gray", str(error)
    cells = [
        f"<td style='text-align:left'>{html.escape(name)}</td><td>{row['value']:.4f}</td><td>{interval_of(row)}</td>"
        f"<td>{row['n']:,}</td>"
        for name, row in list_measurements(run.rows)
    ]
    heads = "".join(f"<th>{each}</th>" for each in ("measure", "value", "95 % interval", "n"))
    table = f"<table><tr>{heads}</tr>{''.join(f'<tr>{each}</tr>' for each in cells)}</table>"
    return f"<div style='border-left:4px solid {tone};padding-left:8px'>{said}<br>{html.escape(words)}</div>{table}"


def _outcome(run: Run) -> str:
    if not run.rows:
        return f"unfinished, step {run.steps:,} of {run.spec.steps:,}"
    try:
        verdict = run.verdict.label
    except RequestError:
        verdict = "no verdict"
    rows = [(name, run.rows.get(name)) for name in ("exact", "branch", "follow")]
    return f"{verdict}: " + ", ".join(f"{name} {row['value']:.3f}" for name, row in rows if isinstance(row, dict))


def _shorten(run: Run, kind: str) -> str:
    return shorten(part_registries()[kind], getattr(run.spec, kind))


def settling_commands(spec: Settings, known: Circumstances) -> list[str]:
    """Commands, one after the other, that would make a failure under these circumstances conclusive: of the positive
    control, and of the run itself where both need more than they had."""
    remedies = find_remedies(known, spec.steps)
    changes: dict[str, Any] = {name: value for name, value in remedies.items() if name == "steps"}
    if "layers" in remedies:
        changes["backbone"] = re.sub(r"([:,]layers=)[0-9]+", rf"\g<1>{remedies['layers']}", spec.backbone)
    settled = spec.replace(**changes)
    runs = dict.fromkeys([settled.control(), *([settled] if changes else [])])
    return [each.command for each in runs]
