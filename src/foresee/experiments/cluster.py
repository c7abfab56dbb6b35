"""Runs on other machines: tasks of a Ray cluster, or jobs of Slurm by submitit.

Both train right into the folder of runs, which has to lie on storage that every machine sees at the same path, as data
files, checkpoints and plug-in files have to. The run folders are the only state, so whatever is lost is continued from
its last checkpoint, on any machine.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresee.core.errors import ForeseeError, RequestError
from foresee.experiments.engine import Engine, Job, LostWorkerError, Pending, train_one
from foresee.experiments.machine import cores
from foresee.training.environment import environment


def train_here(code: str, order: tuple[Any, ...]) -> ForeseeError | None:
    """Trains a run on the machine that this is called on; what went wrong is given back, not raised, since neither
    cluster would bring it back as what it is. ``code`` is the digest of the code of whoever leads."""
    try:
        if environment()["code"] != code:
            raise ForeseeError(
                f"{socket.gethostname()} has another version of foresee than the machine that leads; install the same"
            )
        train_one(*order)
    except ForeseeError as error:
        return error
    return None


@dataclass(frozen=True, eq=False)
class _Submitted:
    """A call of ``train_here`` that a cluster makes."""

    call: Any
    handle: Any

    def done(self) -> bool:
        return bool(self.call.done())

    def exception(self) -> BaseException | None:
        error: BaseException | None = self.call.exception() or self.call.result()
        return error


class RayCluster(Engine):
    """Runs as tasks of a Ray cluster, each of which asks for ``threads`` processors."""

    def __init__(self, *, jobs: int | None = None, threads: int | None = None, address: str | None = None) -> None:
        """``address`` is that of a running cluster, as in ``10.0.0.1:6379`` or ``auto``; where it is None, a cluster of
        this machine's cores is started, and ended again. Raises ``RequestError`` where Ray is not installed."""
        super().__init__(jobs=jobs, threads=threads)
        try:
            import ray
        except ModuleNotFoundError:
            raise RequestError("engine ray needs Ray, which is not installed: pip install ray") from None
        self.ray: Any = ray
        self.address, self.code = address, environment()["code"]
        self._started = False
        self._submitted: list[_Submitted] = []

    def plan(self, jobs: Sequence[Job]) -> str:
        at = f"the Ray cluster at {self.address}" if self.address else f"a local Ray cluster of {cores()} processors"
        bound = f"at most {self.jobs} runs at a time" if self.jobs else "as many runs at a time as it has room for"
        return f"{bound} on {at}, {self.threads} {'threads' if self.threads > 1 else 'thread'} each"

    def has_room(self, job: Job, running: int) -> bool:
        self._connect()
        processors = self.ray.cluster_resources().get("CPU", 1.0)  # as far as it has grown by now
        return running < (self.jobs or max(1, int(processors // self.threads)))

    def start(self, job: Job, root: Path) -> Pending:
        gpus = int(job.settings.device == "cuda")
        task = self.ray.remote(train_here).options(
            num_cpus=self.threads, num_gpus=gpus, max_retries=0, scheduling_strategy="SPREAD"
        )
        handle = task.remote(self.code, job.order(root, self.threads))
        self._submitted.append(_Submitted(handle.future(), handle))
        return self._submitted[-1]

    def explain(self, error: BaseException) -> BaseException:
        if isinstance(error, self.ray.exceptions.RayError) and not isinstance(error, self.ray.exceptions.RayTaskError):
            return LostWorkerError(f"its worker is lost: {type(error).__name__}")
        return getattr(error, "cause", error)

    def stop(self) -> None:
        """A task that is cancelled hears what Ctrl-C sends."""
        self._cancel(force=False)

    def close(self) -> None:
        self._cancel(force=True)
        if self._started:
            self.ray.shutdown()

    def _cancel(self, force: bool) -> None:
        for each in self._submitted:
            if not each.done():
                self.ray.cancel(each.handle, force=force)

    def _connect(self) -> None:
        if self.ray.is_initialized():
            return
        # Whoever wants Ray to report usage to its makers sets this to 1.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray leaves the GPUs that a process may see alone where it gives it none; it would warn that this will change.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        local: dict[str, Any] = {} if self.address else {"num_cpus": cores(), "include_dashboard": False}
        handler = signal.getsignal(signal.SIGTERM)  # Ray sets its own, which would end this process at once
        try:
            self.ray.init(address=self.address or "local", logging_level=logging.ERROR, log_to_driver=False, **local)
        except (ConnectionError, ValueError, TimeoutError) as error:
            said = " ".join(str(error).split())[:200]
            raise RequestError(f"--address {self.address}: no Ray cluster could be reached there ({said})") from None
        signal.signal(signal.SIGTERM, handler)
        self._started = True


class Slurm(Engine):
    """Runs as jobs of Slurm, each of which asks for ``threads`` processors."""

    def __init__(
        self, *, jobs: int | None = None, threads: int | None = None, options: Sequence[str] = (),
        cluster: str = "slurm",
    ) -> None:  # fmt: skip
        """``options`` are those of a job as submitit knows them, each as in ``partition=gpu``, ``timeout_min=600`` or
        ``mem_gb=8``; ``cluster`` is submitit's name of what runs the jobs. Raises ``RequestError`` where submitit is
        not installed, Slurm is not there or an option is none."""
        super().__init__(jobs=jobs, threads=threads)
        try:
            import submitit
        except ModuleNotFoundError:
            raise RequestError("engine slurm needs submitit, which is not installed: pip install submitit") from None
        self.submitit, self.cluster, self.code = submitit, cluster, environment()["code"]
        self.options: dict[str, str | int] = {}
        for option in options:
            name, equals, value = option.partition("=")
            if not equals or not value:
                raise RequestError(f"--slurm {option}: write an option and its value, as in partition=gpu")
            self.options[name] = int(value) if value.isdecimal() else value
        self._submitted: list[_Submitted] = []
        self._executor(Path())

    def plan(self, jobs: Sequence[Job]) -> str:
        bound = f"at most {self.jobs} jobs" if self.jobs else "a job a run"
        return f"{bound} in Slurm's queue, {self.threads} {'threads' if self.threads > 1 else 'thread'} each"

    def has_room(self, job: Job, running: int) -> bool:
        return self.jobs is None or running < self.jobs

    def start(self, job: Job, root: Path) -> Pending:
        executor = self._executor(root / ".slurm")
        executor.update_parameters(name="foresee", cpus_per_task=self.threads)
        if job.settings.device == "cuda":
            executor.update_parameters(gpus_per_node=1)
        handle = executor.submit(train_here, self.code, job.order(root, self.threads))
        self._submitted.append(_Submitted(handle, handle))
        return self._submitted[-1]

    def explain(self, error: BaseException) -> BaseException:
        if isinstance(error, self.submitit.core.utils.FailedJobError):
            return ForeseeError(" ".join(str(error).split())[-400:])
        if isinstance(error, self.submitit.core.utils.UncompletedJobError):
            return LostWorkerError("its Slurm job ended without a result: cancelled, out of time or out of memory")
        return error

    def stop(self) -> None:
        """Slurm sends SIGTERM, and some time later SIGKILL."""
        for each in self._submitted:
            if not each.done():
                each.handle.cancel(check=False)

    def close(self) -> None:
        self.stop()

    def _executor(self, folder: Path) -> Any:
        """A fresh one, with the options of a job. Raises ``RequestError`` as said above."""
        try:
            made = self.submitit.AutoExecutor(folder=folder, cluster=self.cluster)
            known = made._valid_parameters()
            made.update_parameters(
                **{name if name in known else f"slurm_{name}": value for name, value in self.options.items()}
            )
        except (NameError, RuntimeError, TypeError) as error:
            raise RequestError(f"engine slurm: {' '.join(str(error).split())[:300]}") from None
        return made
