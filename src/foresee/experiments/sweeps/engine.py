"""What trains many runs: the seam between a list of runs and the machines that do the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from foresee.core.errors import ForeseeError
from foresee.experiments.sweeps.progress import SweepProgress
from foresee.experiments.sweeps.size import Size
from foresee.training.settings import Settings


@dataclass(frozen=True)
class Job:
    """A run to train, checked and with its size."""

    spec: Settings
    size: Size
    among: int
    """How many different runs the whole sweep has, finished ones included. An engine may choose a run's number of
    threads by it, but never by how many runs are left: a sweep that is continued must give the same bytes."""


@dataclass(frozen=True)
class Ending:
    """How a job ended: its directory is finished, or ``failure`` says why not."""

    spec: Settings
    failure: ForeseeError | None = None


class InterruptedSweepError(ForeseeError):
    """The sweep was asked to stop. Everything done so far is saved."""


class Engine(ABC):
    """Trains jobs, each in its own directory under one root."""

    @abstractmethod
    def plan(self, jobs: Sequence[Job]) -> str:
        """One line that says what would run where, and why so."""

    @abstractmethod
    def run(self, jobs: Sequence[Job], root: Path, progress: SweepProgress) -> Iterator[Ending]:
        """Trains every job (all different, none finished) and yields how each one ended, as it ends.

        A run that fails does not stop the others. Raises ``InterruptedSweepError`` on Ctrl-C and SIGTERM, once every
        run in progress is saved. Closing the iterator ends whatever still works.
        """
