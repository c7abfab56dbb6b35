"""Runs beside each other on this machine, within its cores and memory."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from foresee.core.errors import RequestError
from foresee.experiments.sweeps import machine
from foresee.experiments.sweeps.engine import Ending, Engine, Job
from foresee.experiments.sweeps.plan import Machine, Room, describe, threads_for
from foresee.experiments.sweeps.process import WORKER, Event, WorkerProcess, was_killed, why
from foresee.experiments.sweeps.progress import SweepProgress
from foresee.experiments.sweeps.supervise import Hands, supervise
from foresee.experiments.sweeps.worker import Order

SPARED = 0.1
"""The share of the free memory that is left alone."""


class Local(Engine):
    """Each run in a process of its own, as many at a time as cores and memory allow."""

    def __init__(
        self, *, workers: int | None = None, threads: int | None = None, plugins: Sequence[Path] = (),
        command: Sequence[str] = WORKER,
    ) -> None:  # fmt: skip
        """``workers`` bounds how many runs go beside each other and ``threads`` says how many each has; chosen by size
        of run and machine where None. ``plugins`` are files that workers load before they read specs; ``command``
        starts a worker. Raises ``RequestError`` where a number is below 1."""
        for name, value in (("workers", workers), ("threads", threads)):
            if value is not None and value < 1:
                raise RequestError(f"{name}={value} must be at least 1")
        self.workers, self.threads, self.plugins, self.command = workers, threads, tuple(plugins), tuple(command)
        self.machine = Machine(machine.cores(), machine.memory(), int(machine.free_memory() * (1 - SPARED)))

    def threads_for(self, job: Job) -> int:
        """Threads of a run; the result depends on them in its last bits."""
        return self.threads or threads_for(job, self.machine)

    def plan(self, jobs: Sequence[Job]) -> str:
        return describe(jobs, [self.threads_for(job) for job in jobs], self.machine, self.workers)

    def run(self, jobs: Sequence[Job], root: Path, progress: SweepProgress) -> Iterator[Ending]:
        yield from supervise(jobs, root, _Processes(self, root), progress)


@dataclass
class _Worker:
    """A process, and what it was made for: it is given no run of another kind, so that it holds no more memory than its
    run does."""

    process: WorkerProcess
    kind: tuple[int, int, str]
    """Threads, estimated bytes, and GPU."""
    job: Job | None = None
    leaving: bool = False
    """Whether it ends by itself, and takes no more runs."""
    last_words: str = ""


class _Processes(Hands):
    """Worker processes and the room that they share."""

    def __init__(self, engine: Local, root: Path) -> None:
        self._engine, self._root = engine, root
        self._room = Room(engine.machine, engine.workers)
        self._gpus = machine.gpus()
        self._measured: dict[int, int] = {}  # peaks in bytes, by the estimates that they replace
        self._workers: list[_Worker] = []
        self._heard: queue.Queue[tuple[_Worker, Event]] = queue.Queue()

    def has_room(self, job: Job) -> bool:
        if job.spec.device == "cuda" and self._free_gpu() is None:
            return False
        return self._room.fits(self._engine.threads_for(job), self._memory(job))

    def start(self, job: Job) -> None:
        threads, engine = self._engine.threads_for(job), self._engine
        gpu = (self._free_gpu() or "") if job.spec.device == "cuda" else ""
        worker = self._idle_or_new((threads, job.size.memory, gpu))
        worker.job = job
        plugins = [str(path.resolve()) for path in engine.plugins]
        worker.process.give(Order(job.spec.model_dump(), str(self._root), threads, plugins))
        self._room.take(job.spec.digest, threads, self._memory(job))

    def events(self, seconds: float) -> list[tuple[str, Event]]:
        heard: list[tuple[str, Event]] = []
        try:
            heard += self._of_job(*self._heard.get(timeout=seconds))
            while True:
                heard += self._of_job(*self._heard.get_nowait())
        except queue.Empty:
            return heard

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.stop()

    def dismiss_idle(self) -> None:
        for worker in [worker for worker in self._workers if worker.job is None]:
            worker.process.kill()
            self._workers.remove(worker)

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        self._workers.clear()

    def _idle_or_new(self, kind: tuple[int, int, str]) -> _Worker:
        """A process of this kind without a run; those of other kinds are ended, since they hold memory."""
        for worker in self._workers:
            if worker.job is None and worker.kind == kind and not worker.leaving:
                return worker
        self.dismiss_idle()
        threads, _, gpu = kind
        environment = {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
        process = WorkerProcess(
            threads,
            lambda event: self._heard.put((made, event)),
            command=self._engine.command,
            environment=environment,
        )
        made = _Worker(process, kind)
        self._workers.append(made)
        return made

    def _of_job(self, worker: _Worker, event: Event) -> list[tuple[str, Event]]:
        """The event with the digest that it is about; none where a process without a run says something."""
        job = worker.job
        match event["event"]:
            case "start":
                event["where"] = f"process {worker.process.pid}"
            case "said":
                worker.last_words = event["text"]
            case "end":
                worker.job = None
                estimate = worker.kind[1]
                self._measured[estimate] = max(event["peak"], self._measured.get(estimate, 0))
                worker.leaving = event["kind"] != "finished"
            case "gone":
                if worker in self._workers:
                    self._workers.remove(worker)
                killed = was_killed(event["status"])
                words = "" if killed or not worker.last_words else f": {worker.last_words}"
                event = {"event": "gone", "why": why(event["status"]) + words, "again": killed}
        if job is None:
            return []
        if event["event"] in ("end", "gone"):
            self._room.give_back(job.spec.digest)
        return [(job.spec.digest, event)]

    def _free_gpu(self) -> str | None:
        taken = {worker.kind[2] for worker in self._workers if worker.job is not None}
        return next((gpu for gpu in self._gpus if gpu not in taken), None)

    def _memory(self, job: Job) -> int:
        """Bytes: measured where a run of this size has ended, estimated before."""
        return self._measured.get(job.size.memory, job.size.memory)
