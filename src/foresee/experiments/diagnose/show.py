"""A diagnosis for a person at a terminal."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from foresee.core.spec import brief
from foresee.experiments.diagnose.result import Diagnosis
from foresee.objectives.base import objectives


def show(found: Diagnosis, page: Path, console: Console) -> None:
    """Prints what each objective came to, the verdict, and where the page is."""
    shown = Table(
        title=f"{found.plan.steps:,} steps each, {found.held_out:,} held-out rows",
        title_justify="left", box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    for heading in ("objective", "right", "by seed", "nats a response", "decisions", "0.95 by step"):
        shown.add_column(heading, overflow="fold")
    for each in found.learned:
        shown.add_row(
            brief(objectives, each.objective),
            f"{each.exact['value']:.3f}",
            " ".join(f"{value:.3f}" for value in each.exact_by_seed),
            "-" if each.nll is None else f"{each.nll['value']:.2f} ({each.nll['low']:.2f} to {each.nll['high']:.2f})",
            "-" if each.decisions is None else f"{each.decisions['value']:.3f}",
            " ".join("-" if step is None else str(step) for step in each.steps_to_solve),
        )
    console.print(shown)

    def line(said: str) -> None:
        console.print(said, markup=False, highlight=False, soft_wrap=True)

    if found.absorbed is not None:
        row = found.absorbed
        line(f"share of supervision absorbed: {row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})")
    places = ", ".join(str(each["position"] + 1) for each in found.decision_positions)
    line(f"decision positions: {places or 'none'}")
    line(f"verdict: {found.verdict.name}")
    line(f"because: {found.verdict.because}")
    for said in (*found.verdict.remarks, *(f"next: {each}" for each in found.verdict.advice)):
        line(said)
    line(f"page: {page}")
