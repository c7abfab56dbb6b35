"""Runs on other machines: tasks of a Ray cluster, or jobs of Slurm by submitit.

Both train right into the folder of runs, which has to lie on storage that every machine sees at the same path, as data
files, checkpoints and plug-in files have to. So whatever is lost is continued from its last checkpoint, anywhere.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from foresee.core.errors import ForeseeError, RequestError, require_package
from foresee.experiments.engine import Engine, Job, LostWorkerError, Order, Pending, train_one
from foresee.experiments.machine import cores
from foresee.training.process import environment


def train_here(code: str, order: Order) -> ForeseeError | None:
    """Trains a run on the machine that this is called on; what went wrong is given back, not raised, since neither
    cluster would bring it back as what it is. ``code`` is the digest of the code of whoever leads."""
    try:
        if environment()["code"] != code:
            raise ForeseeError(f"{socket.gethostname()} has another version of foresee than the machine that leads")
        train_one(order)
    except ForeseeError as error:
        return error
    return None


@dataclass(frozen=True, eq=False)
class _RemoteRun:
    """A call of ``train_here`` that a cluster makes: what it will give, and what it can be cancelled by."""

    result: Any
    handle: Any

    def done(self) -> bool:
        return bool(self.result.done())

    def exception(self) -> BaseException | None:
        error: BaseException | None = self.result.exception() or self.result.result()
        return error


class _Cluster(Engine):
    """What both clusters share."""

    library: str
    extra: str
    """Which brings the library, and is the engine's own name."""

    def __init__(self, *, jobs: int | None = None, threads: int | None = None) -> None:
        super().__init__(jobs=jobs, threads=threads)
        require_package(self.library, self.extra, f"engine {self.extra}")
        self.api: Any = import_module(self.library)
        self.code = environment()["code"]
        self._calls: list[_RemoteRun] = []

    def _add(self, result: Any, handle: Any) -> Pending:
        self._calls.append(_RemoteRun(result, handle))
        return self._calls[-1]

    def _unfinished(self) -> list[Any]:
        return [call.handle for call in self._calls if not call.done()]


class RayCluster(_Cluster):
    """Runs as tasks of a Ray cluster, each of which asks for ``threads`` processors."""

    library = extra = "ray"

    def __init__(self, *, jobs: int | None = None, threads: int | None = None, address: str | None = None) -> None:
        """``address`` is that of a running cluster, as in ``10.0.0.1:6379`` or ``auto``; where it is None, a cluster of
        this machine's cores is started, and ended again. Raises ``RequestError`` where Ray is not installed."""
        super().__init__(jobs=jobs, threads=threads)
        self.address, self._started = address, False

    def plan(self, jobs: Sequence[Job]) -> str:
        at = f"the Ray cluster at {self.address}" if self.address else f"a local Ray cluster of {cores()} processors"
        bound = f"at most {self.jobs} runs at a time" if self.jobs else "as many runs at a time as it has room for"
        return f"{bound} on {at}, {self.each}"

    def has_room(self, job: Job, running: int) -> bool:
        self._connect()
        processors = self.api.cluster_resources().get("CPU", 1.0)  # as far as it has grown by now
        return running < (self.jobs or max(1, int(processors // self.threads)))

    def start(self, job: Job, root: Path) -> Pending:
        task = self.api.remote(train_here).options(
            num_cpus=self.threads, num_gpus=int(job.settings.device == "cuda"), max_retries=0,
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        handle = task.remote(self.code, job.order(root, self.threads))
        return self._add(handle.future(), handle)

    def explain(self, error: BaseException) -> BaseException:
        if isinstance(error, self.api.exceptions.RayError) and not isinstance(error, self.api.exceptions.RayTaskError):
            return LostWorkerError(f"its worker is lost: {type(error).__name__}")
        return getattr(error, "cause", error)

    def stop(self) -> None:
        """A task that is cancelled hears what Ctrl-C sends."""
        for handle in self._unfinished():
            self.api.cancel(handle)

    def close(self) -> None:
        for handle in self._unfinished():
            self.api.cancel(handle, force=True)
        if self._started:
            self.api.shutdown()

    def _connect(self) -> None:
        if self.api.is_initialized():
            return
        # Whoever wants Ray to report usage to its makers sets this to 1.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray leaves the GPUs that a process may see alone where it gives it none; it would warn that this will change.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        local: dict[str, Any] = {} if self.address else {"num_cpus": cores(), "include_dashboard": False}
        handler = signal.getsignal(signal.SIGTERM)  # Ray sets its own, which would end this process at once
        try:
            self.api.init(address=self.address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
        except (ConnectionError, ValueError, TimeoutError) as error:
            said = " ".join(str(error).split())[:200]
            raise RequestError(f"--address {self.address}: no Ray cluster could be reached there ({said})") from None
        signal.signal(signal.SIGTERM, handler)
        self._started = True


class Slurm(_Cluster):
    """Runs as jobs of Slurm, each of which asks for ``threads`` processors."""

    library, extra = "submitit", "slurm"

    def __init__(
        self, *, jobs: int | None = None, threads: int | None = None, options: Sequence[str] = (),
        cluster: str = "slurm",
    ) -> None:  # fmt: skip
        """``options`` are those of a job as submitit knows them, each as in ``partition=gpu``, ``timeout_min=600`` or
        ``mem_gb=8``; ``cluster`` is submitit's name of what runs the jobs. Raises ``RequestError`` where submitit is
        not installed, Slurm is not there or an option is none."""
        super().__init__(jobs=jobs, threads=threads)
        self.cluster, self.options = cluster, [option.partition("=") for option in options]
        for name, _, value in self.options:
            if not value:
                raise RequestError(f"--slurm {name}: write an option and its value, as in partition=gpu")
        self._executor(Path())

    def plan(self, jobs: Sequence[Job]) -> str:
        return f"{f'at most {self.jobs} jobs' if self.jobs else 'a job a run'} in Slurm's queue, {self.each}"

    def has_room(self, job: Job, running: int) -> bool:
        return self.jobs is None or running < self.jobs

    def start(self, job: Job, root: Path) -> Pending:
        executor = self._executor(root / ".slurm")
        gpu = {"gpus_per_node": 1} if job.settings.device == "cuda" else {}
        executor.update_parameters(name="foresee", cpus_per_task=self.threads, **gpu)
        handle = executor.submit(train_here, self.code, job.order(root, self.threads))
        return self._add(handle, handle)

    def explain(self, error: BaseException) -> BaseException:
        errors = self.api.core.utils
        if isinstance(error, errors.UncompletedJobError) and not isinstance(error, errors.FailedJobError):
            return LostWorkerError("its Slurm job ended without a result: cancelled, out of time or out of memory")
        return error

    def stop(self) -> None:
        """Slurm sends SIGTERM, and some time later SIGKILL."""
        for handle in self._unfinished():
            handle.cancel(check=False)

    close = stop

    def _executor(self, folder: Path) -> Any:
        """A fresh one, with the options of a job. Raises ``RequestError`` as said above."""
        try:
            made = self.api.AutoExecutor(folder=folder, cluster=self.cluster)
            for name, _, value in self.options:
                known = name if name in made._valid_parameters() else f"slurm_{name}"
                made.update_parameters(**{known: int(value) if value.isdecimal() else value})
        except (AssertionError, NameError, RuntimeError, TypeError) as error:  # as submitit says that one is wrong
            raise RequestError(f"engine slurm: {' '.join(str(error).split())[:300]}") from None
        return made
