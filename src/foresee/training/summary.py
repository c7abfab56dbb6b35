"""A run for a reader: two lines of text, tables for a terminal and a notebook, and what would settle its verdict."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from foresee.core.errors import RequestError
from foresee.core.spec import shorten
from foresee.metrics.base import Row, Rows
from foresee.metrics.verdict import plain_words
from foresee.training.settings import Settings, part_registries

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from foresee.training.run import Run

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
    """Its interval, and the number that it is set beside; empty where it has neither."""
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else ""
    return f"{interval} beside {row['reference']:.4f}".lstrip() if "reference" in row else interval


def describe_parts(spec: Settings) -> str:
    """Objective, task and backbone of a run, by what is not at its default."""
    kinds = ("objective", "task", "backbone")
    return "{} on {} with {}".format(*(shorten(part_registries()[kind], getattr(spec, kind)) for kind in kinds))


def describe_run(run: Run) -> str:
    """What was run, and what came of it."""
    asked = f"{describe_parts(run.spec)}, seed {run.spec.seed}"
    return f"{asked}: {run.steps:,} step{'s' * (run.steps != 1)}, {run.seconds:.0f} s\n{_outcome(run)}; {run.dir}"


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


def table_of(
    headings: Iterable[str], rows: Iterable[Sequence[str | Text]], width: int, whole: Sequence[str] = ()
) -> Table:
    """A table for a terminal of ``width`` columns: where its lines are too long they break at spaces, and those of the
    columns ``whole`` never; a word breaks only where nothing else is left."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = [tuple(Text(each) if isinstance(each, str) else each for each in row) for row in rows]
    names = list(headings)
    bounds = [find_widths([name, *(row[at].plain for row in lines)], name in whole) for at, name in enumerate(names)]
    widths = [longest for _, longest in bounds]
    gap = 2 if sum(widths) + 2 * len(widths) <= width else 1
    room = width - gap * (len(widths) - 1)
    while sum(widths) > room and (open_ := [at for at, (least, _) in enumerate(bounds) if widths[at] > least]):
        widths[max(open_, key=widths.__getitem__)] -= 1
    made = Table(box=box.HORIZONTALS, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)
    for name, size in zip(names, widths, strict=True):
        made.add_column(name, overflow="fold", no_wrap=name in whole, width=size if sum(widths) <= room else None)
    for row in lines:
        made.add_row(*row)
    return made


def find_widths(cells: Iterable[str], whole: bool) -> tuple[int, int]:
    """The least width of a column that is broken at spaces, or where ``whole`` at none, and that of its longest
    line."""
    from rich.cells import cell_len

    lines = [line for cell in cells for line in cell.split("\n")]
    longest = max(map(cell_len, lines))
    return longest if whole else max(cell_len(word) for line in lines for word in (line.split() or [""])), longest
