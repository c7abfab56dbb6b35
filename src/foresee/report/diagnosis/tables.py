"""The page's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from foresee.experiments.diagnose.result import Learned
from foresee.experiments.diagnose.tables import Row
from foresee.report.markup import swatch, text
from foresee.report.style import Mark

KINDS = {
    "forced": "the true tokens before each, in its own order",
    "hidden": "the prompt alone",
    "none": "",
}


def table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Ready-made cells under headings."""
    head = "".join(f"<th>{text(each)}</th>" for each in headings)
    body = "".join("<tr>" + "".join(f"<td><div>{cell}</div></td>" for cell in line) + "</tr>" for line in lines)
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="tablebox"><table>{inside}</table></div>'


def number(row: Row | None, digits: int = 3) -> str:
    """A value over its interval."""
    if row is None:
        return "&ndash;"
    low, high = row["low"], row["high"]
    return f'{row["value"]:.{digits}f}<div class="interval">{low:.{digits}f} to {high:.{digits}f}</div>'


def learned(rows: Sequence[Learned], labels: Mapping[str, str], marks: Mapping[str, Mark], steps: int) -> str:
    """What each objective came to."""
    headings = (
        "objective", "whole responses right", "by seed", "nats a response", "decisions right", "at 0.95 by step",
        "seconds of training",
    )  # fmt: skip
    lines = []
    for row in rows:
        solved = ", ".join("not" if at is None else f"{at:,}" for at in row.steps_to_solve)
        lines.append(
            (
                f'{swatch(marks[row.objective])}<span class="name">{text(labels[row.objective])}</span>',
                number(row.exact),
                ", ".join(f"{each:.3f}" for each in row.exact_by_seed),
                number(row.nll, 2),
                number(row.decisions),
                f"{solved}" + (f" (of {steps:,})" if "not" in solved else ""),
                ", ".join(f"{each:,.0f}" for each in row.seconds),
            )
        )
    return table(headings, lines)


def losses(rows: Sequence[Row], first: str, key: str) -> str:
    """Losses by class or position."""
    headings = (first, "tokens", "shown", "hidden", "given away", "share of decisions")
    return table(
        headings,
        (
            (
                text(row[key] if key == "class" else row[key] + 1), f"{row['tokens']:,}", number(row["shown"]),
                number(row["hidden"]), number(row["given"]), number(row["decision"]),
            )
            for row in rows
        ),
    )  # fmt: skip
