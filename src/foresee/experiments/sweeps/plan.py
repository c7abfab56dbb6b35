"""How many threads a run gets on one machine, and how many runs go beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foresee.experiments.sweeps.engine import Job

WORK_PER_THREAD = 1e10
"""Floating-point operations of a training step for each thread of a run. A choice: ``gpt-nano`` on G(2, 5) with batch
256, which has 3e10, is about twice as quick on two threads (docs/performance.md); how small a step still gains has not
been measured."""


@dataclass(frozen=True)
class Machine:
    """What a machine gives to a sweep."""

    cores: int
    memory: int
    """Bytes in all."""
    free: int
    """Bytes that are free as the sweep starts."""


def threads_for(job: Job, machine: Machine) -> int:
    """Threads of a run: one where there are as many runs as cores, since two runs on a core each get more done than one
    after the other on two; more where there are fewer runs, or memory holds fewer, and the network is large.

    It depends on the run, the number of runs in the sweep and the machine alone, never on what is left to do: results
    of one number of threads differ in their last bits from those of another.
    """
    together = max(1, min(job.among, machine.cores, machine.memory // job.size.memory))
    return max(1, min(machine.cores // together, int(job.size.work / WORK_PER_THREAD)))


@dataclass
class Room:
    """What is free on a machine while runs come and go."""

    machine: Machine
    workers: int | None
    """The most runs at once, or None for no bound but cores and memory."""

    def __post_init__(self) -> None:
        self._taken: dict[str, tuple[int, int]] = {}

    def fits(self, threads: int, memory: int) -> bool:
        """Whether another run fits beside those that are there. Alone, any run fits."""
        if not self._taken:
            return True
        used_threads = sum(each for each, _ in self._taken.values())
        used_memory = sum(each for _, each in self._taken.values())
        if self.workers is not None:
            # Whoever names a number of workers decides about the cores.
            return len(self._taken) < self.workers and used_memory + memory <= self.machine.free
        return used_threads + threads <= self.machine.cores and used_memory + memory <= self.machine.free

    def take(self, digest: str, threads: int, memory: int) -> None:
        """A run begins."""
        self._taken[digest] = (threads, memory)

    def give_back(self, digest: str) -> None:
        """It ended."""
        self._taken.pop(digest, None)


def describe(jobs: Sequence[Job], threads: Sequence[int], machine: Machine, workers: int | None) -> str:
    """One line on what was chosen and why."""
    room = Room(machine, workers)
    beside = 0
    for job, each in zip(jobs, threads, strict=True):
        if not room.fits(each, job.size.memory):
            break
        room.take(job.spec.digest, each, job.size.memory)
        beside += 1
    largest = max(job.size.memory for job in jobs)
    return (
        f"{beside} {'runs' if beside > 1 else 'run'} at a time with {_range(threads)} each: {machine.cores} "
        f"{'cores' if machine.cores > 1 else 'core'} usable, {machine.free / 2**30:.1f} GiB free, "
        f"{'up to ' if len(jobs) > 1 else ''}{largest / 2**30:.1f} GiB a run (estimated)"
    )


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low} {'threads' if low > 1 else 'thread'}" if low == high else f"{low} to {high} threads"
