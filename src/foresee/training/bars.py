"""The live bars of a terminal."""

from __future__ import annotations

import sys

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from foresee.core.errors import ForeseeError
from foresee.training.progress import LiveLines, describe_start
from foresee.training.settings import Settings


class Words(tuple[str, ...]):
    """As many of a few words as have room, the first before the others."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fitting = ""
        for each in self:
            longer = f"{fitting}  {each}".lstrip()
            if len(longer) > options.max_width:
                break
            fitting = longer
        yield Text(fitting)


class SeenColumn(ProgressColumn):
    """What was seen last of a run."""

    def render(self, task: Task) -> Words:
        return Words(task.fields["seen"])


class Bars(LiveLines):
    """A bar for each run in training, below one for all where they are several; what is worth keeping stands above."""

    def __init__(self, console: Console) -> None:
        super().__init__(sys.stderr)
        self._console = console
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=24)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            SeenColumn(Column(no_wrap=True, ratio=1)),
            console=console,
            expand=True,
            refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),  # a file gets what a plug-in prints
            speed_estimate_period=3600,  # reports may be minutes apart
        )
        self._bar: dict[str, TaskID] = {}

    def plan(self, text: str, runs: int, finished: int) -> None:
        super().plan(text, runs, finished)
        self._all = self._bars.add_task("runs", total=runs, completed=finished, seen=(), visible=runs > 1)
        self._bars.start()

    def start(self, settings: Settings, step: int) -> None:
        self._remove(settings)
        name = f"{settings.objective.partition(':')[0]}, seed {settings.seed}" if self._runs > 1 else ""
        if not name:
            self.say(describe_start(settings, step))
        self._bar[settings.digest] = self._bars.add_task(name, total=settings.steps, completed=step, seen=())
        self._bars.start()
        super().start(settings, step)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._remove(settings)
        super().end(settings, failure)
        self._bars.update(self._all, completed=self._done)

    def close(self) -> None:
        self._bars.stop()

    def _draw(self, settings: Settings, step: int) -> None:
        super()._draw(settings, step)
        self._bars.update(self._bar[settings.digest], completed=step, seen=self._seen[settings.digest])

    def _remove(self, settings: Settings) -> None:
        if settings.digest in self._bar:
            self._bars.remove_task(self._bar.pop(settings.digest))
