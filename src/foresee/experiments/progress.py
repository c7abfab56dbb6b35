"""What many runs show while they go on, and their mirrors in other tools.

The runner tells of a run what stands in its folder, so it makes no difference who trains it, and where.
"""

from __future__ import annotations

import html
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from foresee.core.errors import ForeseeError
from foresee.training.progress import Output, Progress, bar_html, depth_warning, describe, in_notebook, title
from foresee.training.records import REPORT, TIMING, Report, Timing, read_lines
from foresee.training.run import Run, load
from foresee.training.settings import Settings
from foresee.training.tracking import Tracked


class RunsProgress:
    """Told by the runner how far its runs are. This one shows nothing; others override what they show."""

    def plan(self, text: str, runs: int, finished: int) -> None:
        """There are ``runs`` different runs, ``finished`` of them done before; ``text`` is the engine's plan."""

    def start(self, settings: Settings, step: int) -> None:
        """A run begins, or continues after about ``step`` steps."""

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        """A line of a run's ``metrics.jsonl`` and one of its ``timing.jsonl`` were written."""

    def note(self, settings: Settings, text: str) -> None:
        """Something else is worth knowing of a run."""

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        """A run is finished, or failed."""

    def done(self, run: Run) -> None:
        """A run is finished, now or before; told of each at the end."""

    def close(self) -> None:
        """All is over."""


class RunsLines(RunsProgress):
    """Prints a plain line whenever something happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs = self._done = 0
        self._warned: set[tuple[str, str]] = set()

    def warn(self, settings: Settings) -> None:
        """Says once of a task and a backbone where it may be too shallow."""
        if (settings.task, settings.backbone) not in self._warned:
            self._warned.add((settings.task, settings.backbone))
            if (warning := depth_warning(settings)) is not None:
                wrapped = self._console.is_terminal
                self._console.print(warning, markup=False, highlight=False, soft_wrap=not wrapped)

    def plan(self, text: str, runs: int, finished: int) -> None:
        self._runs, self._done = runs, finished
        self._print(f"{runs} {'run' if runs == 1 else 'runs'}, {finished} finished before; {text}")

    def start(self, settings: Settings, step: int) -> None:
        self.warn(settings)
        self.note(settings, f"continues from about step {step}" if step else "begins")

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        self.note(settings, f"step {line['step']}/{settings.steps}  {'  '.join(describe(line, timing))}")

    def note(self, settings: Settings, text: str) -> None:
        # The start of its digest tells apart runs that differ in other settings.
        self._print(f"{title(settings)} ({settings.digest[:6]}): {text}")

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._done += failure is None
        ending = f"finished, {self._done} of {self._runs}" if failure is None else f"FAILED: {failure}"
        self.note(settings, ending)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class RunsBars(RunsLines):
    """Shows a live bar for each run in training above one for all; what is worth keeping stands above them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=24)),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[seen]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=console,
            expand=True,
            speed_estimate_period=3600,  # reports may be minutes apart
        )
        self._bar: dict[str, TaskID] = {}

    def plan(self, text: str, runs: int, finished: int) -> None:
        super().plan(text, runs, finished)
        self._all = self._bars.add_task("runs", total=runs, completed=finished, seen="")
        self._bars.start()

    def start(self, settings: Settings, step: int) -> None:
        self._remove(settings)
        self.warn(settings)
        self._bar[settings.digest] = self._bars.add_task(
            short_title(settings), total=settings.steps, completed=step, seen=""
        )

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        seen = f"loss {line['loss']:.3f} exact {line['eval']['exact']:.2f}"
        if line["step"] == settings.steps:
            seen += " measuring"
        self._bars.update(self._bar[settings.digest], completed=line["step"], seen=seen)

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._remove(settings)
        super().end(settings, failure)
        self._bars.update(self._all, completed=self._done)

    def close(self) -> None:
        self._bars.stop()

    def _remove(self, settings: Settings) -> None:
        if settings.digest in self._bar:
            self._bars.remove_task(self._bar.pop(settings.digest))


class RunsCell(RunsProgress):
    """Shows the runs in training in the output of a notebook's cell."""

    def __init__(self) -> None:
        self._output, self._bars, self._said = Output(), dict[str, str](), list[str]()

    def plan(self, text: str, runs: int, finished: int) -> None:
        self._runs, self._done = runs, finished
        self._show()

    def start(self, settings: Settings, step: int) -> None:
        if (warning := depth_warning(settings)) is not None and html.escape(warning) not in self._said:
            self._said.append(html.escape(warning))
        self._bars[settings.digest] = bar_html(short_title(settings), step, settings.steps, None, [])
        self._show()

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        done, seen = line["step"], describe(line, timing)
        left = timing["seconds"] / done * (settings.steps - done)
        self._bars[settings.digest] = bar_html(short_title(settings), done, settings.steps, left, seen)
        self._show()

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._bars.pop(settings.digest, None)
        self._done += failure is None
        if failure is not None:
            self._said.append(html.escape(f"{title(settings)}: FAILED: {failure}"))
        self._show()

    def _show(self) -> None:
        self._output.show("<br>".join([*self._said, f"{self._done} of {self._runs} runs", *self._bars.values()]))


def short_title(settings: Settings) -> str:
    """Objective and seed."""
    return f"{settings.objective.partition(':')[0]}, seed {settings.seed}"


class RunsMirrored(RunsProgress):
    """Shows runs as ``shown`` does, and keeps a mirror of each, wherever it is trained: ``--track``."""

    def __init__(self, shown: RunsProgress, kind: str, root: Path) -> None:
        """``kind`` is that of ``Tracked``; ``root`` the folder that holds the runs. Raises ``RequestError`` on another
        kind, or where its library is not installed."""
        self._shown, self._kind, self._root = shown, kind, root
        self._mirrors: dict[str, Tracked] = {}
        self.plan, self.note = shown.plan, shown.note  # type: ignore[method-assign]  # not mirrored
        Tracked(Progress(), kind, root)  # says at once what is wrong with ``kind``

    def start(self, settings: Settings, step: int) -> None:
        """Mirrors anew what a continued run's folder holds: whoever began it may have been killed before it had."""
        self._shown.start(settings, step)
        if settings.digest not in self._mirrors:
            mirror = self._mirrors[settings.digest] = Tracked(Progress(), self._kind, self._root)
            mirror.start(settings, 0)
            for line, timing in reports(self._root / settings.digest):
                if line["step"] <= step:
                    mirror.report(line, timing)

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        self._shown.report(settings, line, timing)
        self._mirrors[settings.digest].report(line, timing)

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._shown.end(settings, failure)
        if failure is None:
            self.done(load(self._root / settings.digest))

    def done(self, run: Run) -> None:
        mirror = self._mirrors.pop(run.spec.digest, None) or Tracked(Progress(), self._kind, self._root)
        mirror.done(run)

    def close(self) -> None:
        self._shown.close()
        for mirror in self._mirrors.values():
            mirror.close()


def reports(directory: Path) -> list[tuple[Report, Timing]]:
    """The lines of ``metrics.jsonl`` and ``timing.jsonl`` that a run in training has written so far."""
    try:
        metrics = read_lines(directory / "metrics.jsonl", REPORT, may_be_cut=True)
        timings = read_lines(directory / "timing.jsonl", TIMING, may_be_cut=True)
    except ForeseeError:  # whoever trains it says what is wrong
        return []
    return list(zip(metrics, timings, strict=False))


def show_runs(track: str | None = None, root: Path = Path("runs"), *, silent: bool = False) -> RunsProgress:
    """The right kind for who looks, mirrored where ``track`` names a tool."""
    console = Console(stderr=True)
    shown = RunsProgress()
    if not silent:
        shown = RunsCell() if in_notebook() else RunsBars(console) if console.is_terminal else RunsLines(console)
    return shown if track is None else RunsMirrored(shown, track, root)
