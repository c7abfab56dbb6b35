"""Runs on a Ray cluster, whose machines need not share a file system.

Each run has an actor (``ferry.py``) that trains it in a folder of its own machine and hands back events and files. This
process keeps the run directories and a lock on each one in progress; they are the only state. An actor that is lost,
with its machine or without, is replaced by another that continues from the last state that came back; a sweep that is
killed continues from the same directories.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from foresee.core.errors import RequestError
from foresee.experiments.sweeps.engine import Ending, Engine, Job
from foresee.experiments.sweeps.ferry import Ferry, Told
from foresee.experiments.sweeps.machine import cores
from foresee.experiments.sweeps.parcel import pack, unpack
from foresee.experiments.sweeps.process import Event
from foresee.experiments.sweeps.progress import SweepProgress
from foresee.experiments.sweeps.supervise import Hands, supervise
from foresee.training.environment import environment
from foresee.training.guard import locked

try:
    import ray
    from ray.exceptions import RayError
except ModuleNotFoundError as error:
    if error.name != "ray":
        raise
    raise RequestError(
        "engine ray needs Ray, which is not installed; install it with: pip install 'foresee[ray]'"
    ) from None

SEND_SECONDS = 60.0
"""The least time between two states that an actor sends back: how much work a lost machine costs, at most, beyond the
time between two checkpoints."""
LISTEN_SECONDS = 1.0
CLOSE_SECONDS = 5.0


class OnRay(Engine):
    """Runs as actors of a Ray cluster."""

    def __init__(
        self, *, address: str | None = None, workers: int | None = None, threads: int = 1,
        plugins: Sequence[Path] = (), send_seconds: float = SEND_SECONDS, command: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """``address`` is that of a running cluster, as in ``10.0.0.1:6379`` or ``auto``; where it is None, a cluster of
        this machine's cores is started, and ended again. ``workers`` bounds how many runs are in progress, by default
        as many as the cluster has processors for; each asks for ``threads`` of them. ``plugins`` are sent along.
        ``command`` starts a worker process on a machine. Raises ``RequestError`` where a number is below 1.
        """
        for name, value in (("workers", workers), ("threads", threads)):
            if value is not None and value < 1:
                raise RequestError(f"{name}={value} must be at least 1")
        self.address, self.workers, self.threads = address, workers, threads
        self.plugins = {path.name: path.read_bytes() for path in plugins}
        self.send_seconds, self.command = send_seconds, command

    def plan(self, jobs: Sequence[Job]) -> str:
        at = f"the Ray cluster at {self.address}" if self.address else f"a local Ray cluster of {cores()} processors"
        bound = (
            f"at most {self.workers} runs at a time" if self.workers else "as many runs at a time as it has room for"
        )
        return f"{bound} on {at}, {self.threads} {'threads' if self.threads > 1 else 'thread'} each"

    def run(self, jobs: Sequence[Job], root: Path, progress: SweepProgress) -> Iterator[Ending]:
        with _connected(self.address):
            yield from supervise(jobs, root, _Actors(self, root), progress)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to a cluster, or to the one that this process has already."""
    if ray.is_initialized():
        yield
        return
    # Whoever wants Ray to report usage to its makers sets this to 1.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray leaves the GPUs that a process may see alone where it gives it none; it would warn that this will change.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local: dict[str, Any] = {} if address else {"num_cpus": cores(), "include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
    except (ConnectionError, ValueError, TimeoutError) as error:
        raise RequestError(
            f"--address {address}: no Ray cluster could be reached there ({' '.join(str(error).split())[:200]})"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@dataclasses.dataclass(eq=False)
class _Actor:
    """A ferry on the cluster, and what it was made for."""

    handle: Any
    kind: tuple[bool, int]
    """Whether it has a GPU, and the estimated bytes of its runs: it is given no run of another kind, so that it holds
    no more memory than its run does."""
    job: Job | None = None
    lock: ExitStack = dataclasses.field(default_factory=ExitStack)
    where: str = ""


class _Actors(Hands):
    """The actors of a sweep. Each that has a run has one question open at any time: to begin, and then, again and
    again, what is new."""

    def __init__(self, engine: OnRay, root: Path) -> None:
        self._engine, self._root = engine, root
        self._code = environment()["code"]
        self._actors: list[_Actor] = []
        self._asked: dict[Any, _Actor] = {}

    def has_room(self, job: Job) -> bool:
        limit = self._engine.workers or int(_processors() // self._engine.threads)
        return sum(actor.job is not None for actor in self._actors) < max(1, limit)

    def start(self, job: Job) -> None:
        directory = self._root / job.spec.digest
        directory.mkdir(parents=True, exist_ok=True)
        lock = ExitStack()
        lock.enter_context(locked(directory))
        actor = self._idle_or_new((job.spec.device == "cuda", job.size.memory))
        actor.job, actor.lock = job, lock
        begun = actor.handle.begin.remote(job.spec.model_dump(), job.spec.digest, pack(directory))
        self._asked[begun] = actor

    def events(self, seconds: float) -> list[tuple[str, Event]]:
        if not self._asked:
            return []
        answered, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=seconds)
        heard: list[tuple[str, Event]] = []
        for answer in answered:
            actor = self._asked.pop(answer)
            assert actor.job is not None
            digest = actor.job.spec.digest
            try:
                said = ray.get(answer)
            except RayError as error:
                events: list[Event] = [{"event": "gone", "why": f"its worker is lost: {_short(error)}", "again": True}]
            else:
                events = self._located(actor, said) if isinstance(said, dict) else self._told(actor, digest, said)
            last = events[-1] if events else {"event": ""}
            if last["event"] in ("end", "gone"):
                actor.job = None
                actor.lock.close()
                if last.get("kind") != "finished":
                    self._end([actor])
            else:
                self._asked[actor.handle.listen.remote(LISTEN_SECONDS)] = actor
            heard += [(digest, event) for event in events]
        return heard

    def stop(self) -> None:
        for actor in self._asked.values():
            actor.handle.stop.remote()

    def dismiss_idle(self) -> None:
        self._end([actor for actor in self._actors if actor.job is None])

    def close(self) -> None:
        self._end(self._actors)

    def _idle_or_new(self, kind: tuple[bool, int]) -> _Actor:
        """An actor of this kind without a run; those of other kinds are ended, since they hold processors."""
        for actor in self._actors:
            if actor.job is None and actor.kind == kind:
                return actor
        self.dismiss_idle()
        engine, (gpu, _) = self._engine, kind
        ferry = ray.remote(Ferry).options(num_cpus=engine.threads, num_gpus=int(gpu), scheduling_strategy="SPREAD")
        made = _Actor(ferry.remote(engine.threads, engine.plugins, engine.send_seconds, engine.command), kind)
        self._actors.append(made)
        return made

    def _located(self, actor: _Actor, place: dict[str, Any]) -> list[Event]:
        """The answer to ``begin``."""
        # A cluster that was started here runs the code that is here, even while it is being edited.
        if self._engine.address and place["code"] != self._code:
            failure = f"{place['host']} has another version of foresee than this machine; install the same on both"
            return [{"event": "end", "kind": "failed", "failure": failure, "status": 1}]
        actor.where = f"process {place['pid']} on {place['host']} (actor {place['ferry']})"
        return []

    def _told(self, actor: _Actor, digest: str, told: Told) -> list[Event]:
        """The answer to what is new: files are kept before anybody hears of it."""
        events, parcel = told
        unpack(parcel, self._root / digest)
        for event in events:
            if event["event"] == "start":
                event["where"] = actor.where
        return events

    def _end(self, actors: Sequence[_Actor]) -> None:
        """Ends actors, lost ones included, and with them their workers and folders."""
        closing = [actor.handle.close.remote() for actor in actors]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
        for actor in actors:
            # Where it did not close in time, its worker ends because its standard input does.
            ray.kill(actor.handle)
            actor.lock.close()
        self._actors = [actor for actor in self._actors if actor not in actors]
        self._asked = {answer: actor for answer, actor in self._asked.items() if actor in self._actors}


def _processors() -> float:
    """Of the whole cluster, as far as it has grown by now."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # ray leaves it without types
    return resources.get("CPU", 1.0)


def _short(error: RayError) -> str:
    """What Ray says, without its page of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines and type(error).__name__ == "RayTaskError" else type(error).__name__
