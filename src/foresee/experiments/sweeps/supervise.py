"""The loop that every engine with workers has: what to start, what to wait for, what to try again, when to stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from foresee.core.errors import ForeseeError, RequestError
from foresee.experiments.sweeps.engine import Ending, InterruptedSweepError, Job
from foresee.experiments.sweeps.process import Event
from foresee.experiments.sweeps.progress import SweepProgress
from foresee.training.guard import InUseError, in_use, stop_signals
from foresee.training.settings import Settings

ATTEMPTS = 5
"""How often in a row a run's worker may die without having got further than before."""
TICK = 0.2
"""Seconds between looks at what does not speak for itself: signals, and locks of other processes."""
STOP_SECONDS = 90.0


class Hands(ABC):
    """What does the work: processes of this machine, or of a cluster."""

    @abstractmethod
    def has_room(self, job: Job) -> bool:
        """Whether a worker for this job can be started now."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Starts one. Raises ``InUseError`` where another process has the run."""

    @abstractmethod
    def events(self, seconds: float) -> list[tuple[str, Event]]:
        """What workers told, as (digest, event); waits up to ``seconds`` for the first. Events are those of
        ``process.py``, and ``start`` has ``where`` the worker is, for people. The last event of a digest is
        ``end``, or else ``gone`` with ``why`` in words and ``again``, whether another worker should take it up."""

    @abstractmethod
    def stop(self) -> None:
        """Asks every worker to save and end."""

    @abstractmethod
    def dismiss_idle(self) -> None:
        """Ends workers that have no run: there is none left to give them."""

    @abstractmethod
    def close(self) -> None:
        """Ends at once whatever is left."""


def supervise(jobs: Sequence[Job], root: Path, hands: Hands, progress: SweepProgress) -> Iterator[Ending]:
    """Runs ``Engine.run`` with these hands."""
    loop = _Loop(jobs, root, hands, progress)
    try:
        with stop_signals() as stop:
            while loop.busy:
                if stop():
                    loop.save_all()
                    raise InterruptedSweepError(
                        f"stopped: {loop.done} of {len(jobs)} runs that were left are finished, and those in progress "
                        f"are saved in {root}; the same command continues"
                    )
                yield from loop.turn()
    finally:
        hands.close()


class _Loop:
    """Where every job of a sweep is: to be started, waited for because another process has it, or with a worker."""

    def __init__(self, jobs: Sequence[Job], root: Path, hands: Hands, progress: SweepProgress) -> None:
        self.root, self.hands, self.progress = root, hands, progress
        self.ready = list(jobs)
        self.elsewhere: list[Job] = []
        self.working: dict[str, Job] = {}
        self.deaths: dict[str, int] = {}
        self.furthest: dict[str, int] = {}
        self.done = 0

    @property
    def busy(self) -> bool:
        return bool(self.ready or self.elsewhere or self.working)

    def turn(self) -> Iterator[Ending]:
        """Starts what has room, then listens for a moment."""
        back = [job for job in self.elsewhere if not in_use(self.root / job.spec.digest)]
        self.elsewhere = [job for job in self.elsewhere if job not in back]
        self.ready = [*back, *self.ready]
        for job in list(self.ready):
            yield from self._start(job)
        if not self.ready and not self.elsewhere:
            self.hands.dismiss_idle()
        for digest, event in self.hands.events(TICK):
            yield from self._hear(self.working[digest], event)

    def save_all(self) -> None:
        """Asks all workers to save, and waits until they have."""
        self.hands.stop()
        waited = 0.0
        while self.working and waited < STOP_SECONDS:
            heard = self.hands.events(TICK)
            waited += 0.0 if heard else TICK
            for digest, event in heard:
                if event["event"] in ("end", "gone"):
                    del self.working[digest]
                    self.done += event.get("kind") == "finished"

    def _start(self, job: Job) -> Iterator[Ending]:
        if not self.hands.has_room(job):
            return
        directory = self.root / job.spec.digest
        if (directory / "rows.jsonl").exists():  # another process has finished it meanwhile
            self.ready.remove(job)
            self.done += 1
            yield Ending(job.spec)
        elif in_use(directory):
            self.ready.remove(job)
            self._wait_for(job)
        else:
            self.ready.remove(job)
            try:
                self.hands.start(job)
            except InUseError:  # taken up by another process since
                self._wait_for(job)
            else:
                self.working[job.spec.digest] = job

    def _wait_for(self, job: Job) -> None:
        self.elsewhere.append(job)
        self.progress.waiting(job.spec)

    def _hear(self, job: Job, event: Event) -> Iterator[Ending]:
        spec = job.spec
        match event["event"]:
            case "start":
                self._reached(spec, event["step"])
                self.progress.began(spec, event["step"], event["where"])
            case "step":
                self._reached(spec, event["step"])
                self.progress.step(spec, event["step"])
            case "report":
                self._reached(spec, event["line"]["step"])
                self.progress.report(spec, event["line"], event["timing"])
            case "measuring":
                self.progress.measuring(spec, event["examples"])
            case "said":
                self.progress.said(spec, event["text"])
            case "end":
                del self.working[spec.digest]
                yield from self._ended(job, event)
            case "gone":
                del self.working[spec.digest]
                yield from self._died(job, event["why"], event["again"])

    def _ended(self, job: Job, event: Event) -> Iterator[Ending]:
        match event["kind"]:
            case "finished":
                self.done += 1
                yield Ending(job.spec)
            case "in use":
                self._wait_for(job)
            case "failed":
                kind = RequestError if event["status"] == RequestError.status else ForeseeError
                yield Ending(job.spec, kind(event["failure"]))
            case "stopped":  # by somebody else than this sweep
                yield from self._died(job, event["failure"], True)

    def _died(self, job: Job, why: str, again: bool) -> Iterator[Ending]:
        deaths = self.deaths[job.spec.digest] = self.deaths.get(job.spec.digest, 0) + 1
        if again and deaths < ATTEMPTS:
            self.progress.retrying(job.spec, why)
            self.ready.insert(0, job)
        else:
            often = f"{deaths} times in a row without getting further, " if deaths > 1 else ""
            yield Ending(job.spec, ForeseeError(f"{often}{why}; what was saved is kept"))

    def _reached(self, spec: Settings, step: int) -> None:
        if step > self.furthest.get(spec.digest, 0):
            self.furthest[spec.digest] = step
            self.deaths[spec.digest] = 0
