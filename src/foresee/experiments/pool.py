"""Runs beside each other on this machine: a pool of worker processes, within its cores and memory.

Each worker is a ``ProcessPoolExecutor`` of one process, so that one that is killed takes no other with it and it is
known whose it was. A worker has a pipe from the process that leads: what comes through it asks the worker to stop, and
so does its end, which the kernel brings about when the leading process dies in whatever way.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

from foresee.core.errors import ForeseeWarning, show_warning
from foresee.experiments import machine
from foresee.experiments.engine import Engine, Job, LostWorkerError, Order, Pending, train_one

SPARED = 0.1
"""The share of the free memory that is left alone."""
SAVING_SECONDS = 60
"""How long a worker that is asked to stop may take to save before it kills itself."""
SAVE, NOW = b"save", b"now"


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """A process that is started within never hears Ctrl-C, which is the leading process's to answer."""
    resource_tracker.ensure_running()  # starting it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(eq=False)
class _Worker:
    executor: ProcessPoolExecutor
    pipe: Connection
    kind: tuple[int, str]
    """Estimated bytes and GPU: it is given no run of another kind, so that it holds no more memory than its run."""
    run: Future[None]

    def say(self, word: bytes) -> None:
        with suppress(OSError):  # it is gone
            self.pipe.send_bytes(word)

    def close(self) -> None:
        """Waits until the process has ended."""
        self.executor.shutdown(cancel_futures=True)
        self.pipe.close()


class WorkerPool(Engine):
    """Each run in a process of its own, as many at a time as cores and memory allow, or as ``jobs`` says."""

    work: Callable[[Order], None] = staticmethod(train_one)

    def __init__(self, *, jobs: int | None = None, threads: int | None = None) -> None:
        super().__init__(jobs=jobs, threads=threads)
        self.cores, self.free = machine.cores(), int(machine.free_memory() * (1 - SPARED))
        self._workers: list[_Worker] = []

    @cached_property
    def gpus(self) -> list[str]:
        """Those that runs may have: one each, or where ``jobs`` are more, as evenly shared as can be."""
        return machine.gpus()

    def plan(self, jobs: Sequence[Job]) -> str:
        largest = max(job.memory for job in jobs)
        beside = max(1, min(len(jobs), self.jobs or self.cores // self.threads, self.free // largest))
        return (
            f"{beside} {'runs' if beside > 1 else 'run'} at a time with {self.each}: {self.cores} "
            f"{'cores' if self.cores > 1 else 'core'} usable, {self.free / 2**30:.1f} GiB free, "
            f"{'up to ' if len(jobs) > 1 else ''}{largest / 2**30:.1f} GiB a run (estimated)"
        )

    def has_room(self, job: Job, running: int) -> bool:
        """Alone, any run fits; whoever names a number of jobs decides about the cores and how many share a GPU, but not
        about the memory."""
        working = [worker.kind for worker in self._workers if not worker.run.done()]
        on_gpus = sum(bool(gpu) for _, gpu in working)
        if job.settings.device == "cuda" and not self.jobs and on_gpus >= len(self.gpus):
            return False
        fits = sum(memory for memory, _ in working) + job.memory <= self.free
        return not running or (running < (self.jobs or self.cores // self.threads) and fits)

    def start(self, job: Job, root: Path) -> Pending:
        taken = [worker.kind[1] for worker in self._workers if not worker.run.done()]
        gpu = min(self.gpus, key=taken.count) if job.settings.device == "cuda" else ""
        kind, order = (job.memory, gpu), job.order(root, self.threads)
        for worker in self._workers:
            if worker.kind == kind and worker.run.done() and worker.run.exception() is None:
                with suppress(BrokenProcessPool):  # it was killed since its last run: another takes its place
                    worker.run = worker.executor.submit(_work, self.work, order)
                    return worker.run
        self.release_idle()  # those of other kinds hold memory
        context = get_context("spawn")
        theirs, ours = context.Pipe(duplex=False)
        executor = ProcessPoolExecutor(1, context, _begin_worker, (theirs, gpu, ignored_warnings()))
        with _no_main_module(), theirs, _no_interrupt():
            run = executor.submit(_work, self.work, order)
        self._workers.append(_Worker(executor, ours, kind, run))
        return run

    def explain(self, error: BaseException) -> BaseException:
        if isinstance(error, BrokenProcessPool):
            return LostWorkerError("its process was killed, as the system does where memory runs out, or crashed")
        return error

    def release_idle(self) -> None:
        for worker in [each for each in self._workers if each.run.done()]:
            worker.close()
            self._workers.remove(worker)

    def stop(self) -> None:
        for worker in self._workers:
            worker.say(SAVE)

    def close(self) -> None:
        for worker in self._workers:
            worker.say(NOW)
        for worker in self._workers:
            worker.close()
        self._workers.clear()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Within it, a process that is started imports nothing of this program's main module, of which it needs nothing: so
    a script needs no guard against being run again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def ignored_warnings() -> list[str]:
    """Patterns of this package's warnings that this process ignores, as its workers are to."""
    ignored = [
        message for action, message, kind, *_ in warnings.filters if (action, kind) == ("ignore", ForeseeWarning)
    ]
    return [message.pattern for message in ignored if message is not None]


# In a worker ----------------------------------------------------------------------------------------------------------

_busy = threading.Lock()


def _begin_worker(pipe: Connection, gpu: str, ignored: Sequence[str]) -> None:
    os.setsid()  # a Ctrl-C is for the process that leads, which passes it on
    os.dup2(2, 1)  # standard output is for that process's results
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.showwarning = show_warning
    for message in ignored:
        warnings.filterwarnings("ignore", message, ForeseeWarning)
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()


def _work(work: Callable[[Order], None], order: Order) -> None:
    with _busy:
        work(order)


def _watch(pipe: Connection) -> None:
    """Waits for a word through the pipe, or for its end, and sees to it that this process saves its run and ends.

    One request to stop is not enough: Python drops an interrupt that comes while it runs a finaliser, and one that
    comes as training ends is not looked at any more."""
    word = _hear(pipe, None)
    until = time.monotonic() + SAVING_SECONDS
    while word != NOW and time.monotonic() < until:
        if not _busy.locked():
            os._exit(0)
        os.kill(os.getpid(), signal.SIGTERM)
        word = _hear(pipe, 1.0)
    os.kill(os.getpid(), signal.SIGKILL)


def _hear(pipe: Connection, seconds: float | None) -> bytes:
    """The next word within that time, or none; where the other end is gone, none after that time."""
    try:
        return pipe.recv_bytes() if pipe.poll(seconds) else b""
    except (EOFError, OSError):
        time.sleep(seconds or 0.0)
        return b""
