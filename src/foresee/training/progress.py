"""What a long run shows while it works: a live bar on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from foresee.training.run import Run
from foresee.training.settings import Settings


class Progress(ABC):
    """Told by the training loop how far it is."""

    @abstractmethod
    def start(self, spec: Settings, step: int) -> None:
        """Training begins, or continues after ``step`` steps."""

    @abstractmethod
    def step(self, step: int) -> None:
        """``step`` steps are done."""

    @abstractmethod
    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        """A line of ``metrics.jsonl`` and one of ``timing.jsonl`` were written."""

    @abstractmethod
    def finish(self) -> None:
        """Training is over."""

    @abstractmethod
    def measuring(self, examples: int) -> None:
        """The final measurements on ``examples`` examples begin."""

    def done(self, run: Run) -> None:  # noqa: B027  # most have nothing to show then
        """The run is finished, now or long ago."""


class Silent(Progress):
    """Shows nothing."""

    def start(self, spec: Settings, step: int) -> None: ...
    def step(self, step: int) -> None: ...
    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None: ...
    def finish(self) -> None: ...
    def measuring(self, examples: int) -> None: ...


def describe(line: dict[str, Any], timing: dict[str, Any]) -> str:
    """Loss, accuracy and speed in a few words."""
    seen = line["eval"]
    branch = f"  branch {seen['branch']:.2f}" if "branch" in seen else ""
    return (
        f"loss {line['loss']:.4f}  exact {seen['exact']:.2f}{branch}  {timing['examples_per_second']:,.0f} examples/s"
    )


def title(spec: Settings) -> str:
    """A run's name for people."""
    return f"{spec.objective.partition(':')[0]} on {spec.task.partition(':')[0]}, seed {spec.seed}"


class Lines(Progress):
    """A plain line at each report, with the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = self._first = 0
        self._began = 0.0
        self._title = ""

    def start(self, spec: Settings, step: int) -> None:
        self._steps, self._first, self._began, self._title = spec.steps, step, time.perf_counter(), title(spec)
        self._print(
            f"training {spec.objective} on {spec.task} with {spec.backbone}" + (f", from step {step}" * (step > 0))
        )

    def step(self, step: int) -> None: ...

    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        done = line["step"]
        left = (time.perf_counter() - self._began) / max(1, done - self._first) * (self._steps - done)
        self._print(f"{self._title}: step {done}/{self._steps}  {describe(line, timing)}  {left:.0f} s left")

    def finish(self) -> None: ...

    def measuring(self, examples: int) -> None:
        self._print(f"measuring on {examples:,} test examples")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bar(Progress):
    """A live bar with loss, accuracy, examples a second and time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: RichProgress | None = None

    def start(self, spec: Settings, step: int) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[seen]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task(title(spec), total=spec.steps, completed=step, seen="")
        self._bar.start()

    def step(self, step: int) -> None:
        assert self._bar is not None
        self._bar.update(self._task, completed=step)

    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        assert self._bar is not None
        self._bar.update(self._task, seen=describe(line, timing))

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def measuring(self, examples: int) -> None:
        self._console.print(f"measuring on {examples:,} test examples", markup=False, highlight=False)


def on_standard_error() -> Progress:
    """The right kind for where standard error goes."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines(console)
