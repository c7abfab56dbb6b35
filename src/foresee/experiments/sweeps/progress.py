"""What a sweep tells about itself while it works."""

from __future__ import annotations

from typing import Any

from foresee.core.errors import ForeseeError
from foresee.training.progress import Progress
from foresee.training.run import Run
from foresee.training.settings import Settings


class SweepProgress:
    """Told by a sweep how far its runs are. This one shows nothing; others override what they show."""

    def plan(self, text: str, runs: int, finished: int) -> None:
        """The sweep has ``runs`` different runs, ``finished`` of them done before; ``text`` is the engine's plan."""

    def began(self, spec: Settings, step: int, where: str) -> None:
        """A run begins, or continues after ``step`` steps; ``where`` names its process, and its machine if another."""

    def step(self, spec: Settings, step: int) -> None:
        """``step`` steps of a run are done."""

    def report(self, spec: Settings, line: dict[str, Any], timing: dict[str, Any]) -> None:
        """A line of a run's ``metrics.jsonl`` and one of its ``timing.jsonl`` were written."""

    def measuring(self, spec: Settings, examples: int) -> None:
        """The final measurements of a run begin."""

    def waiting(self, spec: Settings) -> None:
        """Another process trains this run already; the sweep waits for it."""

    def retrying(self, spec: Settings, why: str) -> None:
        """What trained a run is gone; another worker will take it up."""

    def said(self, spec: Settings, text: str) -> None:
        """What a run's process wrote to its standard error."""

    def ended(self, spec: Settings, failure: ForeseeError | None) -> None:
        """A run is finished, or failed."""

    def done(self, run: Run) -> None:
        """A run of the sweep is finished, now or before; told of each at the end."""

    def close(self) -> None:
        """The sweep is over."""


class Forwarded(Progress):
    """Passes what the training loop tells of one run on to a sweep's progress."""

    def __init__(self, progress: SweepProgress, where: str) -> None:
        self._progress = progress
        self._where = where
        self._spec: Settings | None = None

    def start(self, spec: Settings, step: int) -> None:
        self._spec = spec
        self._progress.began(spec, step, self._where)

    def step(self, step: int) -> None:
        assert self._spec is not None
        self._progress.step(self._spec, step)

    def report(self, line: dict[str, Any], timing: dict[str, Any]) -> None:
        assert self._spec is not None
        self._progress.report(self._spec, line, timing)

    def finish(self) -> None: ...

    def measuring(self, examples: int) -> None:
        if self._spec is not None:  # None where only the measurements were missing
            self._progress.measuring(self._spec, examples)
