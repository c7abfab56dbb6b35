"""A run's measurements for a person at a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from foresee.diagnostics.base import Row
from foresee.diagnostics.verdict import plain_words
from foresee.run import Run


def show_run(run: Run, console: Console) -> None:
    """Prints rows, verdict and what it means."""
    shown = Table(title=f"{run.spec.objective} on {run.spec.task}", title_justify="left")
    for heading in ("measure", "value", "95 % interval", "n"):
        shown.add_column(heading)
    for name, row in run.rows.items():
        each = [(f"{name}[{place}]", one) for place, one in enumerate(row)] if isinstance(row, list) else [(name, row)]
        for label, one in each:
            shown.add_row(label, *_cells(one))
    console.print(shown)
    verdict = run.verdict
    console.print(f"verdict: {verdict.name}{' (inconclusive)' if verdict.inconclusive else ''}", highlight=False)
    console.print(f"because: {verdict.because}", markup=False, highlight=False)
    console.print(plain_words(verdict), markup=False, highlight=False)
    console.print(f"run: {run.dir}", markup=False, highlight=False, soft_wrap=True)


def _cells(row: Row) -> tuple[str, str, str]:
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else ""
    if "reference" in row:
        interval = f"beside {row['reference']:.4f}"
    return f"{row['value']:.4f}", interval, f"{row['n']:,}"
