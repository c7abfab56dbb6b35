"""What a sweep shows while it works: a line a worker on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from foresee.core.errors import ForeseeError
from foresee.core.spec import brief
from foresee.experiments.sweeps.progress import SweepProgress
from foresee.objectives.base import objectives
from foresee.tasks.base import tasks
from foresee.training.progress import describe, title
from foresee.training.run import Run
from foresee.training.settings import Settings


class Lines(SweepProgress):
    """A plain line whenever something happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs = self._done = 0

    def plan(self, text: str, runs: int, finished: int) -> None:
        self._runs, self._done = runs, finished
        self._print(f"{runs} {'run' if runs == 1 else 'runs'}, {finished} finished before; {text}")

    def began(self, spec: Settings, step: int, where: str) -> None:
        self._print(f"{name(spec)}: {f'continues from step {step}' if step else 'begins'} in {where}")

    def report(self, spec: Settings, line: dict[str, Any], timing: dict[str, Any]) -> None:
        self._print(f"{name(spec)}: step {line['step']}/{spec.steps}  {describe(line, timing)}")

    def measuring(self, spec: Settings, examples: int) -> None:
        self._print(f"{name(spec)}: measuring on {examples:,} test examples")

    def waiting(self, spec: Settings) -> None:
        self._print(f"{name(spec)}: another process trains it; waiting for that")

    def retrying(self, spec: Settings, why: str) -> None:
        self._print(f"{name(spec)}: {why}; another takes it up from what was saved")

    def said(self, spec: Settings, text: str) -> None:
        self._print(f"{name(spec)}: {text}")

    def ended(self, spec: Settings, failure: ForeseeError | None) -> None:
        self._done += failure is None
        ending = f"finished, {self._done} of {self._runs}" if failure is None else f"FAILED: {failure}"
        self._print(f"{name(spec)}: {ending}")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Live(Lines):
    """A live bar for each run in progress above one for the sweep; what is worth keeping stands above them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[seen]}", markup=False),
            TimeRemainingColumn(),
            console=console,
        )
        self._of: dict[str, TaskID] = {}

    def plan(self, text: str, runs: int, finished: int) -> None:
        super().plan(text, runs, finished)
        self._all = self._bars.add_task("runs", total=runs, completed=finished, seen="")
        self._bars.start()

    def began(self, spec: Settings, step: int, where: str) -> None:
        self._remove(spec)
        self._of[spec.digest] = self._bars.add_task(name(spec), total=spec.steps, completed=step, seen="")

    def step(self, spec: Settings, step: int) -> None:
        if spec.digest in self._of:
            self._bars.update(self._of[spec.digest], completed=step)

    def report(self, spec: Settings, line: dict[str, Any], timing: dict[str, Any]) -> None:
        if spec.digest in self._of:
            self._bars.update(self._of[spec.digest], completed=line["step"], seen=describe(line, timing))

    def measuring(self, spec: Settings, examples: int) -> None:
        if spec.digest in self._of:
            self._bars.update(self._of[spec.digest], seen=f"measuring on {examples:,} examples")

    def retrying(self, spec: Settings, why: str) -> None:
        self._remove(spec)
        super().retrying(spec, why)

    def ended(self, spec: Settings, failure: ForeseeError | None) -> None:
        self._remove(spec)
        super().ended(spec, failure)
        self._bars.update(self._all, completed=self._done)

    def close(self) -> None:
        self._bars.stop()

    def _remove(self, spec: Settings) -> None:
        if spec.digest in self._of:
            self._bars.remove_task(self._of.pop(spec.digest))


def name(spec: Settings) -> str:
    """A run for people; the start of its digest tells apart runs that differ in other settings."""
    return f"{title(spec)} ({spec.digest[:6]})"


def show_runs(runs: Sequence[Run], console: Console) -> None:
    """Prints finished runs, one a line."""
    shown = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    for heading, width in (("run", 16), ("objective", 10), ("task", 9), ("seed", 4), ("exact", 5), ("verdict", 9)):
        shown.add_column(heading, overflow="fold", min_width=width)
    for run in runs:
        exact, verdict = run.rows["exact"], run.verdict
        assert isinstance(exact, dict)
        cells = (run.spec.digest, brief(objectives, run.spec.objective), brief(tasks, run.spec.task),
                 str(run.spec.seed), f"{exact['value']:.3f}",
                 verdict.name + (" (inconclusive)" if verdict.inconclusive else ""))  # fmt: skip
        shown.add_row(*map(escape, cells))
    console.print(shown)


def on_standard_error() -> SweepProgress:
    """The right kind for where standard error goes."""
    console = Console(stderr=True)
    return Live(console) if console.is_terminal else Lines(console)
