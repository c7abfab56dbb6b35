"""What runs show while they are trained: live bars on a terminal and in a notebook, plain lines elsewhere.

Always on standard error, or in the cell of the notebook. Only the bars of a terminal (``bars.py``) need a library.
"""

from __future__ import annotations

import html
import sys
import time
from importlib.util import find_spec
from typing import Any, TextIO

from foresee.backbones.base import describe_backbone
from foresee.core.errors import ForeseeError
from foresee.metrics.control import describe_shallow
from foresee.training.records import Report, Timing
from foresee.training.run import Run
from foresee.training.settings import Settings
from foresee.training.summary import describe_parts

REDRAW_SECONDS = 0.1


class Progress:
    """Told how far runs are: of one by the training loop, of several by the runner, which tells what stands in their
    folders, whoever trains them. This one shows nothing; others override what they show."""

    def plan(self, text: str, runs: int, finished: int) -> None:
        """There are ``runs`` different runs, ``finished`` of them done before; ``text`` is the engine's plan. Not told
        where there is one run alone."""

    def start(self, settings: Settings, step: int) -> None:
        """A run begins, or continues after about ``step`` steps."""

    def step(self, settings: Settings, step: int) -> None:
        """``step`` steps of a run are done; told by the training loop alone."""

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        """A line of a run's ``metrics.jsonl`` and one of its ``timing.jsonl`` were written."""

    def say(self, text: str) -> None:
        """Something else is worth knowing."""

    def note(self, settings: Settings, text: str) -> None:
        """Something else is worth knowing of a run."""

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        """One of the planned runs is finished, or failed."""

    def done(self, run: Run) -> None:
        """A run is finished, now or long ago; told of each at the end."""

    def close(self) -> None:
        """All is over, well or not."""


def describe(line: Report, timing: Timing) -> list[str]:
    """Loss, accuracy and speed in a few words each, the dispensable last."""
    seen, rate = line["eval"], timing["examples_per_second"]
    branch = [f"branch {seen['branch']:.2f}"] if "branch" in seen else []
    return [f"loss {line['loss']:.4f}", f"exact {seen['exact']:.2f}", f"{rate:,.0f} examples/s", *branch]


def title(settings: Settings) -> str:
    """A run's name for people."""
    return f"{settings.objective.partition(':')[0]} on {settings.task.partition(':')[0]}, seed {settings.seed}"


def describe_start(settings: Settings, step: int) -> str:
    """What begins."""
    return f"training {describe_parts(settings)}" + (f", from step {step}" if step else "")


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


class Lines(Progress):
    """A plain line whenever something happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._runs = self._done = 0
        self._began: dict[str, tuple[float, int]] = {}
        self._warned: set[tuple[str, str]] = set()

    def plan(self, text: str, runs: int, finished: int) -> None:
        self._runs, self._done = runs, finished
        self.say(f"{runs} {'run' if runs == 1 else 'runs'}, {finished} finished before; {text}")

    def start(self, settings: Settings, step: int) -> None:
        if self._runs > 1:
            self.note(settings, f"continues from about step {step}" if step else "begins")
        else:
            self.say(describe_start(settings, step))
        self._begin(settings, step)

    def _begin(self, settings: Settings, step: int) -> None:
        """Starts the clock of a run, and says once of a task and a backbone where it may be too shallow."""
        self._began[settings.digest] = time.perf_counter(), step
        parts = settings.task, settings.backbone
        if parts not in self._warned:
            self._warned.add(parts)
            if (warning := describe_shallow(settings.layers, settings.build_task().hops)) is not None:
                self.say(f"warning: {warning}")
            if remark := describe_backbone(settings.backbone):
                self.say(remark)

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        step, left = line["step"], self._left(settings, line["step"])
        seen = [*describe(line, timing), f"{clock(left or 0)} left"]
        self.note(settings, f"step {step}/{settings.steps}  {'  '.join(seen)}")

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def note(self, settings: Settings, text: str) -> None:
        # The start of its digest tells apart runs that differ in other settings.
        digest = f" ({settings.digest[:6]})" if self._runs > 1 else ""
        self.say(f"{title(settings)}{digest}: {text}")

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._done += failure is None
        self.note(settings, f"finished, {self._done} of {self._runs}" if failure is None else f"FAILED: {failure}")

    def _left(self, settings: Settings, step: int) -> float | None:
        """Seconds, or None while no step is done."""
        began, first = self._began[settings.digest]
        return (time.perf_counter() - began) / (step - first) * (settings.steps - step) if step > first else None


class LiveLines(Lines):
    """What bars have in common: they take the place of the lines that say how far a run is."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._seen: dict[str, list[str]] = {}
        self._drawn = 0.0

    def start(self, settings: Settings, step: int) -> None:
        self._seen[settings.digest] = []
        self._begin(settings, step)
        self._draw(settings, step)

    def step(self, settings: Settings, step: int) -> None:
        if time.perf_counter() - self._drawn >= REDRAW_SECONDS:
            self._draw(settings, step)

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        self._seen[settings.digest] = describe(line, timing)
        if line["step"] == settings.steps:
            self._seen[settings.digest].insert(2, "measuring")
        self._draw(settings, line["step"])

    def _draw(self, settings: Settings, step: int) -> None:
        """Draws a run's bar anew."""
        self._drawn = time.perf_counter()


class NotebookLines(LiveLines):
    """Bars in the output of a notebook's cell, which is drawn anew in place."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._handle: Any = None
        self._said, self._bars = list[str](), dict[str, str]()

    def plan(self, text: str, runs: int, finished: int) -> None:
        self._runs, self._done = runs, finished
        self._show()

    def say(self, text: str) -> None:
        self._said.append(html.escape(text))
        self._show()

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._bars.pop(settings.digest, None)
        if failure is None:
            self._done += 1
            self._show()
        else:
            super().end(settings, failure)

    def _draw(self, settings: Settings, step: int) -> None:
        super()._draw(settings, step)
        left = self._left(settings, step)
        ends = [f"{step:,}/{settings.steps:,}", *([] if left is None else [f"{clock(left)} left"])]
        ends = [html.escape(each) for each in (title(settings), "  ".join([*ends, *self._seen[settings.digest]]))]
        self._bars[settings.digest] = f" <progress value={step} max={settings.steps}></progress> ".join(ends)
        self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        counted = [f"{self._done} of {self._runs} runs"] if self._runs > 1 else []
        text = HTML("<br>".join([*self._said, *counted, *self._bars.values()]))
        if self._handle is None:
            self._handle = display(text, display_id=True)
        else:
            self._handle.update(text)


def on_standard_error() -> Progress:
    """The right kind for who looks."""
    if "ipykernel" in sys.modules:
        return NotebookLines()
    if sys.stderr.isatty() and find_spec("rich") is not None:
        from rich.console import Console

        from foresee.training.bars import Bars

        if (console := Console(stderr=True)).is_interactive:
            return Bars(console)
    return Lines(sys.stderr)
