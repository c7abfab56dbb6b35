"""What a run shows while it is trained: a live bar on a terminal and in a notebook, plain lines elsewhere.

Always on standard error, or in the cell of the notebook; and without any library, so that training needs none.
"""

from __future__ import annotations

import html
import os
import sys
import time
from typing import Any, TextIO

from foresee.backbones.base import describe_backbone
from foresee.core.spec import shorten
from foresee.metrics.control import describe_shallow
from foresee.training.records import Report, Timing
from foresee.training.run import Run
from foresee.training.settings import Settings, part_registries

LEAST_BAR, MOST_BAR = 12, 40
"""Characters of a bar."""
REDRAW_SECONDS = 0.1


class Progress:
    """Told by the training loop how far it is. This one shows nothing; others override what they show."""

    def start(self, spec: Settings, step: int) -> None:
        """Training begins, or continues after ``step`` steps."""

    def step(self, step: int) -> None:
        """``step`` steps are done."""

    def report(self, line: Report, timing: Timing) -> None:
        """A line of ``metrics.jsonl`` and one of ``timing.jsonl`` were written."""

    def finish(self) -> None:
        """Training is over."""

    def measuring(self, examples: int) -> None:
        """The final measurements on ``examples`` examples begin."""

    def done(self, run: Run) -> None:
        """The run is finished, now or long ago."""


def describe(line: Report, timing: Timing) -> list[str]:
    """Loss, accuracy and speed in a few words each, the dispensable last."""
    seen, rate = line["eval"], timing["examples_per_second"]
    branch = [f"branch {seen['branch']:.2f}"] if "branch" in seen else []
    return [f"loss {line['loss']:.4f}", f"exact {seen['exact']:.2f}", f"{rate:,.0f} examples/s", *branch]


def title(spec: Settings) -> str:
    """A run's name for people."""
    return f"{spec.objective.partition(':')[0]} on {spec.task.partition(':')[0]}, seed {spec.seed}"


def depth_warning(spec: Settings) -> str | None:
    """That the backbone may be too shallow for the task's decision, and what else there is to know of it, or None."""
    warning = describe_shallow(spec.layers, spec.build_task().hops)
    notes = [] if warning is None else [f"warning: {warning}"]
    return "\n".join([*notes, *filter(None, [describe_backbone(spec.backbone)])]) or None


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def draw_bar(done: int, steps: int, left: float | None, seen: list[str], width: int) -> str:
    """One line shorter than ``width``: the bar, the step and the time left always, then as much of what was seen as
    fits."""
    ends = f" {done:>{len(str(steps))}}/{steps}  {'-:--' if left is None else clock(left)} left"
    room = width - 1 - LEAST_BAR - len(ends)
    for each in seen:
        if len(each) + 2 <= room:
            ends, room = f"{ends}  {each}", room - len(each) - 2
    whole = max(1, min(MOST_BAR, LEAST_BAR + room))
    filled = whole * done // max(1, steps)
    return "━" * filled + "─" * (whole - filled) + ends


class Lines(Progress):
    """A plain line at each report, with the time left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._spec: Settings | None = None
        self._worked = False

    def start(self, spec: Settings, step: int) -> None:
        self._spec, self._first, self._done, self._began = spec, step, step, time.perf_counter()
        self._worked = True
        self._seen: list[str] = []
        resumed = f", from step {step}" if step else ""
        objective, task, backbone = (
            shorten(part_registries()[kind], getattr(spec, kind)) for kind in ("objective", "task", "backbone")
        )
        self._say(f"training {objective} on {task} with {backbone}{resumed}")
        if (warning := depth_warning(spec)) is not None:
            self._say(warning)

    def report(self, line: Report, timing: Timing) -> None:
        assert self._spec is not None
        self._done, self._seen = line["step"], describe(line, timing)
        said = "  ".join([*self._seen, f"{clock(self._left() or 0)} left"])
        self._say(f"{title(self._spec)}: step {self._done}/{self._spec.steps}  {said}")

    def measuring(self, examples: int) -> None:
        self._worked = True
        self._say(f"measuring on {examples:,} test examples")

    def done(self, run: Run) -> None:
        if not self._worked:
            self._say(f"this run was finished before, and nothing is trained again: {run.dir}")

    def _left(self) -> float | None:
        """Seconds, or None while no step is done."""
        assert self._spec is not None
        done = self._done - self._first
        return (time.perf_counter() - self._began) / done * (self._spec.steps - self._done) if done else None

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Bar(Lines):
    """A live bar with step, time left, loss, accuracy and examples a second."""

    _drawn = 0.0

    def step(self, step: int) -> None:
        self._done = step
        if time.perf_counter() - self._drawn >= REDRAW_SECONDS:
            self._draw()

    def report(self, line: Report, timing: Timing) -> None:
        self._done, self._seen = line["step"], describe(line, timing)
        self._draw()

    def finish(self) -> None:
        self._draw()
        self._stream.write("\n")

    def _draw(self) -> None:
        assert self._spec is not None
        bar = draw_bar(self._done, self._spec.steps, self._left(), self._seen, width_of(self._stream))
        self._stream.write(f"\r{bar}\x1b[K")
        self._stream.flush()
        self._drawn = time.perf_counter()


class Cell(Bar):
    """The same in the output of a notebook's cell, which is drawn anew in place."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._output, self._said = Output(), list[str]()

    def finish(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.perf_counter()
        lines = [html.escape(line) for line in self._said]
        if self._spec is not None:
            lines.append(bar_html(title(self._spec), self._done, self._spec.steps, self._left(), self._seen))
        self._output.show("<br>".join(lines))

    def _say(self, text: str) -> None:
        if not text.startswith("training "):  # the bar has a title
            self._said.append(text)
            self._draw()


class Output:
    """A place in the output of a notebook's cell that holds HTML."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, text: str) -> None:
        """Takes the place of what was shown before."""
        from IPython.display import HTML, display

        if self._handle is None:
            self._handle = display(HTML(text), display_id=True)
        else:
            self._handle.update(HTML(text))


def bar_html(name: str, done: int, steps: int, left: float | None, seen: list[str]) -> str:
    """A bar for a notebook."""
    ends = "  ".join([f"{done:,}/{steps:,}", *([] if left is None else [f"{clock(left)} left"]), *seen])
    return f"{html.escape(name)} <progress value={done} max={steps}></progress> {html.escape(ends)}"


def width_of(stream: TextIO) -> int:
    """Columns of the terminal behind a stream; ``COLUMNS`` where that is set, 80 where neither is known."""
    chosen = os.environ.get("COLUMNS", "")
    if chosen.isdecimal() and int(chosen):
        return int(chosen)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


def on_standard_error() -> Progress:
    """The right kind for who looks."""
    if in_notebook():
        return Cell()
    return Bar(sys.stderr) if sys.stderr.isatty() else Lines(sys.stderr)
