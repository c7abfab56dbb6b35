"""Runs one after the other in this process: no second process, so quickest where runs take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from foresee.core.errors import ForeseeError
from foresee.experiments.sweeps.engine import Ending, Engine, InterruptedSweepError, Job
from foresee.experiments.sweeps.progress import Forwarded, SweepProgress
from foresee.training.loop import InterruptedTrainingError, train


class InTurn(Engine):
    """Trains jobs in the order given, with the threads that this process has."""

    def plan(self, jobs: Sequence[Job]) -> str:
        return "one run after the other in this process"

    def run(self, jobs: Sequence[Job], root: Path, progress: SweepProgress) -> Iterator[Ending]:
        for job in jobs:
            try:
                train(job.spec, root, Forwarded(progress, "this process"))
            except InterruptedTrainingError as error:
                raise InterruptedSweepError(str(error)) from None
            except ForeseeError as error:
                yield Ending(job.spec, error)
            else:
                yield Ending(job.spec)
