"""The paper's claim in a few minutes: the failure, the control, and a repair.

Next-token and reversed training on G(2, 5) show the failure and that the task can be learned; teacherless training then
writes a path forwards. Teacherless training needs a deeper network and both goals of each graph in a batch, and takes
longest, so it is given the largest graph that it solves within minutes (docs/log.md has what was tried).

Networks as narrow as these gain little from a second core, so the two halves of the demo run beside each other, on one
core each. That also makes their numbers the same on any number of cores.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from foresee.core.errors import ForeseeError
from foresee.experiments.compare import value
from foresee.metrics.verdict import plain_words
from foresee.report import write_picture, write_report
from foresee.training.run import Run, load
from foresee.training.settings import Settings

GRAPH = "path-star:degree=2,length=5,nodes=50"
STEPS = 600
TEACHERLESS_GRAPH = "path-star:degree=2,length=4,nodes=50,goals=all"
TEACHERLESS_BACKBONE = "gpt-nano:layers=8"
TEACHERLESS_STEPS = 3500
TEACHERLESS_SEED = 1
"""One of the quicker seeds, so that the demo stays short; others take up to twice as long (docs/log.md)."""

Lane = tuple[Settings, ...]


def lanes() -> tuple[Lane, Lane]:
    """The demo's runs; those of one lane are trained one after the other."""
    failure = Settings.of(GRAPH, "next-token", steps=STEPS)
    repair = Settings.of(
        TEACHERLESS_GRAPH,
        "teacherless",
        TEACHERLESS_BACKBONE,
        seed=TEACHERLESS_SEED,
        steps=TEACHERLESS_STEPS,
        data="fresh",
        until_solved=True,
    )
    return (failure, failure.control()), (repair,)


def demo(out: Path, console: Console) -> list[Run]:
    """Trains what is not yet trained under ``out / "runs"``, writes ``out / "report.html"``, and says what happened.

    Raises ``ForeseeError`` where a training failed; whatever was trained is kept, and calling it again continues.
    """
    began = time.perf_counter()
    started: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor() as pool:
        trained = [pool.submit(train_lane, lane, out / "runs", started) for lane in lanes()]
        try:
            runs = [run for lane in trained for run in lane.result()]
        except BaseException:
            # Whatever ends the demo ends its trainings, which save themselves.
            for process in started:
                process.terminate()
            raise
    for run in runs:
        console.print(f"[bold]{run.spec.objective.partition(':')[0]}[/bold] on {run.spec.task}", highlight=False)
        console.print(f"  {_numbers(run)}", highlight=False)
        console.print(f"  {run.verdict.name}: {plain_words(run.verdict)}", markup=False, highlight=False)
    directories = [run.dir for run in runs]
    page = write_report(directories, out / "report.html", title="Where next-token training fails to look ahead")
    write_picture(directories, out / "picture.svg")
    console.print(
        f"{time.perf_counter() - began:.0f} s. The page with pictures: {page}", highlight=False, soft_wrap=True
    )
    return runs


def train_lane(specs: Sequence[Settings], root: Path, started: list[subprocess.Popen[str]]) -> list[Run]:
    """Trains runs one after the other, each in a process of its own on one core, and passes on what they say. Adds
    each process to ``started``."""
    for spec in specs:
        if (root / spec.digest / "rows.jsonl").exists():
            continue
        words = shlex.split(spec.command)[1:]
        process = subprocess.Popen(
            [sys.executable, "-m", "foresee", *words, "--runs", str(root), "--json"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
        if process.wait():
            raise ForeseeError("a training of the demo stopped early, as said above; the same command continues it")
    return [load(root / spec.digest) for spec in specs]


def _numbers(run: Run) -> str:
    chance = run.task.chance
    parts = [f"exact {value(run, 'exact'):.3f} (chance {chance:.2f})"]
    parts += [f"{name} {value(run, name):.3f}" for name in ("branch", "follow") if name in run.rows]
    return ", ".join(parts) + f", {run.steps} steps, {run.seconds:.0f} s"
