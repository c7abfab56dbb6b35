"""Measurements for a person at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from foresee.core.spec import brief
from foresee.experiments.compare import Group, value
from foresee.metrics.base import Row
from foresee.metrics.verdict import SOLVED, plain_words
from foresee.objectives.base import objectives
from foresee.training.run import Run


def show_run(run: Run, console: Console) -> None:
    """Prints rows, verdict and what it means."""
    shown = Table(title=f"{run.spec.objective} on {run.spec.task}", title_justify="left")
    for heading in ("measure", "value", "95 % interval", "n"):
        shown.add_column(heading)
    for name, row in run.rows.items():
        if isinstance(row, list):
            each = [(f"{name}[{one.get('distance', place)}]", one) for place, one in enumerate(row)]
        else:
            each = [(name, row)]
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


def show_groups(groups: Sequence[Group], title: str, console: Console) -> None:
    """Prints objectives beside each other: a line a seed, since outcomes are bimodal, then the share that solved."""
    shown = Table(title=title, title_justify="left", box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("objective", "seed", "exact", "branch", "follow", "solved at", "verdict"):
        shown.add_column(heading, overflow="fold")
    for group in groups:
        for place, (run, exact, at) in enumerate(zip(group.runs, group.exact, group.steps_to_solve, strict=True)):
            verdict = run.verdict
            shown.add_row(
                brief(objectives, group.objective) if place == 0 else "",
                str(run.spec.seed),
                f"{exact:.3f}",
                _rate(run, "branch"),
                _rate(run, "follow"),
                "-" if at is None else f"step {at}",
                verdict.name + (" (inconclusive)" if verdict.inconclusive else ""),
            )
        shown.add_section()
    console.print(shown)
    for group in groups:
        share, solved = group.solved, sum(exact >= SOLVED for exact in group.exact)
        console.print(
            f"{brief(objectives, group.objective)}: {solved} of {len(group.runs)} seeds solved "
            f"(95 % interval {share['low']:.2f} to {share['high']:.2f})",
            markup=False,
            highlight=False,
        )


def _rate(run: Run, row: str) -> str:
    return f"{value(run, row):.3f}" if row in run.rows else "-"
