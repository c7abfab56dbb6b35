"""What trains a run: the seam between the runner and the processes and machines that do the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from foresee.core.errors import ForeseeError, RequestError
from foresee.core.isolation import keep_large_blocks
from foresee.core.plugins import load_plugin_file, loaded_plugin_files
from foresee.core.registry import nearest
from foresee.training.values import whole_number

if TYPE_CHECKING:  # a worker starts without PyTorch, and imports it with its first run
    from foresee.training.settings import Settings

Order = tuple[dict[str, Any], str, int, list[str]]
"""Plain values, which another process can read before it has any plug-in: the settings' fields, the root, threads, and
plug-in files."""


@dataclass(frozen=True)
class Job:
    """A run to train, checked, and the bytes of memory that it is estimated to need."""

    settings: Settings
    memory: int

    def order(self, root: Path, threads: int) -> Order:
        """What a worker is asked to do."""
        plugins = [str(path.resolve()) for path in loaded_plugin_files()]
        return self.settings.model_dump(), str(root.resolve()), threads, plugins


def train_one(order: Order) -> None:
    """Trains a run in a process of an engine's. Raises what ``train`` does."""
    fields, root, threads, plugins = order
    for path in plugins:
        load_plugin_file(Path(path))
    import torch

    from foresee.training.loop import train
    from foresee.training.settings import Settings

    settings = Settings.read(fields)
    if settings.replace(objective=settings.objective).plugins != settings.plugins:
        raise RequestError(f"{', '.join(plugins)} changed since this run was asked for; ask for it again")
    keep_large_blocks()
    torch.set_num_threads(threads)
    train(settings, root)


class Pending(Protocol):
    """A run in training, as a ``concurrent.futures.Future`` and a job of submitit show it."""

    def done(self) -> bool:
        """Whether it has ended."""

    def exception(self) -> BaseException | None:
        """What went wrong, once it has ended."""


class LostWorkerError(ForeseeError):
    """The process or machine that trained a run is gone; another can continue it from what was saved."""


class Engine(ABC):
    """Trains runs, each in its own folder under one root."""

    def __init__(self, *, jobs: int | None = None, threads: int | None = None) -> None:
        """``jobs`` bounds how many runs go beside each other; ``threads`` is how many each has, 1 by default: a run's
        bytes depend on it, so it does not depend on how many runs there are. Raises ``RequestError`` below 1."""
        self.jobs = None if jobs is None else whole_number("jobs", jobs)
        self.threads = 1 if threads is None else whole_number("threads", threads)

    @property
    def each(self) -> str:
        """The threads of a run, for people."""
        return f"{self.threads} {'threads' if self.threads > 1 else 'thread'} each"

    @abstractmethod
    def plan(self, jobs: Sequence[Job]) -> str:
        """One line that says what would run where, and why so."""

    @abstractmethod
    def has_room(self, job: Job, running: int) -> bool:
        """Whether this job can start while ``running`` others go on."""

    @abstractmethod
    def start(self, job: Job, root: Path) -> Pending:
        """Begins to train a run under ``root``."""

    def explain(self, error: BaseException) -> BaseException:
        """The error of a run as its training raised it, or a ``LostWorkerError``."""
        return error

    def release_idle(self) -> None:  # noqa: B027  # most hold nothing then
        """Ends workers without a run: there is none left to give them."""

    def stop(self) -> None:  # noqa: B027  # what trains in this process hears the signal itself
        """Asks every run in training to save and end."""

    def close(self) -> None:  # noqa: B027  # as above
        """Ends at once whatever is left."""


class InProcess(Engine):
    """Trains one run after the other in this process, with the threads that it has: where time is planned, and for a
    debugger."""

    def plan(self, jobs: Sequence[Job]) -> str:
        return "one run after the other in this process"

    def has_room(self, job: Job, running: int) -> bool:
        return running == 0

    def start(self, job: Job, root: Path) -> Pending:
        from foresee.training.loop import InterruptedTrainingError, train

        ended: Future[None] = Future()
        try:
            train(job.settings, root)
        except InterruptedTrainingError:  # by a signal to this process, which is meant for all of its runs
            raise
        except Exception as error:  # noqa: BLE001  # one run that fails keeps no other from being trained
            ended.set_exception(error)
        else:
            ended.set_result(None)
        return ended


class Batched(InProcess):
    """Trains runs that differ in seed and optimizer alone as one program in this process, for a GPU that one small
    network leaves idle; those that cannot be batched one after the other."""

    def plan(self, jobs: Sequence[Job]) -> str:
        from foresee.training.batched import program_of

        self._programs: dict[str, list[Settings]] = {}
        for job in jobs:
            self._programs.setdefault(program_of(job.settings), []).append(job.settings)
        many = len(self._programs)
        return f"{many} {'program' if many == 1 else 'programs'} of {len(jobs)} runs, one after the other"

    def start(self, job: Job, root: Path) -> Pending:
        from foresee.training.batched import program_of, train_batched
        from foresee.training.loop import InterruptedTrainingError

        together = self._programs.pop(program_of(job.settings), [])
        if len(together) > 1:
            try:
                train_batched(together, root)
            except InterruptedTrainingError:
                raise
            except (ForeseeError, RuntimeError):  # one by one it is known whose it is, and what was saved goes on
                pass
        return super().start(job, root)


def make_engine(
    name: str, *, jobs: int | None = None, threads: int | None = None, address: str | None = None,
    slurm: Sequence[str] = (),
) -> Engine:  # fmt: skip
    """The engine ``local``, ``batched``, ``ray``, ``slurm`` or ``in-process``. ``address`` is that of a Ray cluster;
    ``slurm`` holds options of a Slurm job, as in ``partition=gpu``. Raises ``RequestError`` where one is given to
    another engine, or a library is not installed."""
    if address is not None and name != "ray":
        raise RequestError("--address is that of a Ray cluster; give --engine ray with it")
    if slurm and name != "slurm":
        raise RequestError("--slurm is an option of Slurm's; give --engine slurm with it")
    if name in ("in-process", "batched"):
        return (InProcess if name == "in-process" else Batched)(jobs=jobs, threads=threads)
    from foresee.experiments import cluster, pool

    if name == "local":
        return pool.WorkerPool(jobs=jobs, threads=threads)
    if name == "ray":
        return cluster.RayCluster(jobs=jobs, threads=threads, address=address)
    if name == "slurm":
        return cluster.Slurm(jobs=jobs, threads=threads, options=slurm)
    raise RequestError(f"unknown engine {name!r}: {nearest(name, ['local', 'batched', 'ray', 'slurm', 'in-process'])}")
