"""The paper's claim in a few minutes: the failure, the control, and a repair.

Next-token and reversed training on G(2, 5) show the failure and that the task can be learned; teacherless training then
writes a path forwards. Teacherless training needs a deeper network and both goals of each graph in a batch, and takes
longest, so it is given the graph that it solves within minutes (docs/log.md has what was tried).
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from foresee.compare import value
from foresee.diagnostics.verdict import plain_words
from foresee.progress import on_standard_error
from foresee.report import write_picture, write_report
from foresee.run import Run
from foresee.run_spec import RunSpec
from foresee.train import train

GRAPH = "path-star:degree=2,length=5,nodes=50"
STEPS = 600
TEACHERLESS_GRAPH = "path-star:degree=2,length=4,nodes=50,goals=all"
TEACHERLESS_BACKBONE = "gpt-nano:layers=8"
TEACHERLESS_STEPS = 3000


def specs() -> list[RunSpec]:
    """The demo's three runs."""
    return [
        RunSpec.of(GRAPH, "next-token", steps=STEPS),
        RunSpec.of(GRAPH, "reversed", steps=STEPS),
        RunSpec.of(
            TEACHERLESS_GRAPH,
            "teacherless",
            TEACHERLESS_BACKBONE,
            steps=TEACHERLESS_STEPS,
            data="fresh",
            until_solved=True,
        ),
    ]


def demo(out: Path, console: Console) -> list[Run]:
    """Trains what is not yet trained under ``out / "runs"``, writes ``out / "report.html"``, and says what happened."""
    began = time.perf_counter()
    progress = on_standard_error()
    runs = []
    for spec in specs():
        run = train(spec, out / "runs", progress)
        console.print(f"[bold]{spec.objective.partition(':')[0]}[/bold] on {spec.task}", highlight=False)
        console.print(f"  {_numbers(run)}", highlight=False)
        console.print(f"  {run.verdict.name}: {plain_words(run.verdict)}", markup=False, highlight=False)
        runs.append(run)
    page = write_report(
        [run.dir for run in runs], out / "report.html", title="Where next-token training fails to look ahead"
    )
    write_picture([run.dir for run in runs], out / "picture.svg")
    console.print(
        f"{time.perf_counter() - began:.0f} s. The page with pictures: {page}", highlight=False, soft_wrap=True
    )
    return runs


def _numbers(run: Run) -> str:
    chance = run.task.chance
    parts = [f"exact {value(run, 'exact'):.3f} (chance {chance:.2f})"]
    parts += [f"{name} {value(run, name):.3f}" for name in ("branch", "follow") if name in run.rows]
    return ", ".join(parts) + f", {run.steps} steps, {run.seconds:.0f} s"
