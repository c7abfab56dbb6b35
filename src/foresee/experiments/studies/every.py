"""Every study as one sweep that can be stopped and continued, the cheapest and most telling first: ``study all``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foresee.core.errors import RequestError
from foresee.experiments.engine import Engine
from foresee.experiments.progress import RunsProgress
from foresee.experiments.runner import run_all, unique
from foresee.experiments.studies.base import studies
from foresee.experiments.studies.run import Plan, plan, read

EVERY = "all"
ORDER = ("defaults", "objectives", "pitfalls-reversed", "pitfalls-next-token", "first-token", "structure", "graph-size")
"""The studies that come first; the others follow by name."""


def plan_every(
    scale: str = "laptop", runs: str | Path = "runs", results: Sequence[str | Path] | None = None
) -> tuple[list[Plan], list[str]]:
    """What each study has and lacks; and a sentence for each that cannot be asked for, as where a checkpoint is
    missing."""
    plans, refused = [], []
    for name in [*ORDER, *(name for name in studies.names() if name not in ORDER)]:
        try:
            plans.append(plan(name, scale, runs, results))
        except RequestError as error:
            refused.append(f"{name}: {error}")
    return plans, refused


def train_every(
    plans: Sequence[Plan],
    runs: str | Path = "runs",
    *,
    engine: str | Engine = "local",
    jobs: int | None = None,
    progress: RunsProgress | None = None,
) -> None:
    """Trains what is missing of every study under ``runs``, in the order of the plans; as ``run_all``."""
    missing = unique([run for each in plans for run in each.missing])
    if missing:
        run_all(missing, runs, engine=engine, jobs=jobs, progress=progress)
        for each in plans:
            each.search([Path(runs)])


def show_every(plans: Sequence[Plan], console: Console) -> None:
    """Prints the state of every cell of every study."""
    for each in plans:
        shown = Table("graph", "trained with", "runs", "measured", "state", box=None, padding=(0, 2, 0, 0))
        for cell in read(each).cells:
            measured = "" if cell.mean is None else f"{cell.row} {cell.mean:.2f}"
            shown.add_row(cell.graph, cell.label, f"{len(cell.seeds)}/{cell.seeds_wanted}", measured, cell.agreement)
        console.print(f"[bold]{each.resolved.name}[/bold], {each.study.summary}", highlight=False)
        console.print(shown)
    runs = unique([run for each in plans for run in each.runs])
    missing = unique([run for each in plans for run in each.missing])
    console.print(f"{len(runs) - len(missing)} of {len(runs)} runs finished", markup=False, highlight=False)
