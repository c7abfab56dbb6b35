"""What a long run shows while it works: a live bar on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from foresee.metrics.control import describe_shallow
from foresee.training.run import Run
from foresee.training.settings import Settings


class Progress:
    """Told by the training loop how far it is. This one shows nothing; others override what they show."""

    def start(self, spec: Settings, step: int) -> None:
        """Training begins, or continues after ``step`` steps."""

    def step(self, step: int) -> None:
        """``step`` steps are done."""

    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        """A line of ``metrics.jsonl`` and one of ``timing.jsonl`` were written."""

    def finish(self) -> None:
        """Training is over."""

    def measuring(self, examples: int) -> None:
        """The final measurements on ``examples`` examples begin."""

    def done(self, run: Run) -> None:
        """The run is finished, now or long ago."""


def describe(line: dict[str, Any], timing: dict[str, Any]) -> str:
    """Loss, accuracy and speed in a few words."""
    seen, rate = line["eval"], timing["examples_per_second"]
    branch = f"  branch {seen['branch']:.2f}" if "branch" in seen else ""
    return f"loss {line['loss']:.4f}  exact {seen['exact']:.2f}{branch}  {rate:,.0f} examples/s"


def title(spec: Settings) -> str:
    """A run's name for people."""
    return f"{spec.objective.partition(':')[0]} on {spec.task.partition(':')[0]}, seed {spec.seed}"


def warn_of_depth(spec: Settings, console: Console) -> None:
    """Says that the backbone may be too shallow for the task's decision, where it may."""
    if (warning := describe_shallow(spec.layers, spec.build_task().hops)) is not None:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=not console.is_terminal)


class Lines(Progress):
    """A plain line at each report, with the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def start(self, spec: Settings, step: int) -> None:
        self._spec, self._first, self._began = spec, step, time.perf_counter()
        resumed = f", from step {step}" if step else ""
        self._print(f"training {spec.objective} on {spec.task} with {spec.backbone}{resumed}")
        warn_of_depth(spec, self._console)

    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        done, steps = line["step"], self._spec.steps
        left = (time.perf_counter() - self._began) / max(1, done - self._first) * (steps - done)
        self._print(f"{title(self._spec)}: step {done}/{steps}  {describe(line, timing)}  {left:.0f} s left")

    def measuring(self, examples: int) -> None:
        self._print(f"measuring on {examples:,} test examples")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bar(Progress):
    """A live bar with loss, accuracy, examples a second and time left."""

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[seen]}", markup=False),
            TimeRemainingColumn(),
            console=console,
        )

    def start(self, spec: Settings, step: int) -> None:
        for shown in self._bar.task_ids:
            self._bar.remove_task(shown)
        warn_of_depth(spec, self._bar.console)
        self._task = self._bar.add_task(title(spec), total=spec.steps, completed=step, seen="")
        self._bar.start()

    def step(self, step: int) -> None:
        self._bar.update(self._task, completed=step)

    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        self._bar.update(self._task, seen=describe(line, timing))

    def finish(self) -> None:
        self._bar.stop()

    def measuring(self, examples: int) -> None:
        self._bar.console.print(f"measuring on {examples:,} test examples", markup=False, highlight=False)


def on_standard_error() -> Progress:
    """The right kind for where standard error goes."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines(console)
