"""What a run takes hold of: signals that wait for a step's end, its folder behind a lock, its threads; and what it is
made with: versions, hardware and code."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import IO, Any

import torch

from foresee.core import files
from foresee.core.errors import InUseError, RequestError
from foresee.core.plugins import refuse_while_loading
from foresee.objectives.base import Objective
from foresee.tasks.base import Task
from foresee.tasks.data import Data
from foresee.training.distributed import World
from foresee.training.records import CODING, read_environment, read_spec
from foresee.training.settings import Settings


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within it, Ctrl-C and SIGTERM set a flag that the yielded function reads; a second Ctrl-C interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may handle signals; elsewhere whoever owns it decides.
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps a second process out of a run's directory; the kernel lets go of the lock when its holder dies. Raises
    ``InUseError`` where another has it."""
    with files.explained(directory / "lock"):
        lock = (directory / "lock").open("w")
    with lock as handle:
        try:
            _take(handle)
        except BlockingIOError:
            raise InUseError(
                f"{directory} is being run by another process; wait for it, or use another --runs folder"
            ) from None
        yield


def _take(handle: IO[str]) -> None:
    """Takes the lock of a run; who only looks whether it is in use (``in_use``) holds it for an instant."""
    for _ in range(10):
        with suppress(BlockingIOError):
            return files.lock(handle)
        time.sleep(0.01)
    return files.lock(handle)


def in_use(directory: Path) -> bool:
    """Whether a process works in a run's directory now."""
    try:
        with (directory / "lock").open("r") as handle:
            files.lock(handle, shared=True)
    except (FileNotFoundError, RequestError):  # without locks nobody knows
        return False
    except BlockingIOError:
        return True
    return False


def open_folder(spec: Settings, task: Task, objective: Objective, directory: Path, held: ExitStack) -> int | None:
    """Takes the run's folder for as long as ``held`` is, and gives the threads that the run began with.

    ``env.json`` also says how many numbers are trained and what chance is, so that both are known where the weights or
    the file behind the task are not kept.
    """
    refuse_while_loading()
    with files.explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(directory))
    files.remove_temporaries(directory)
    if (directory / "spec.json").exists():
        read_spec(directory)
    else:
        trained = sum(each.numel() for each in objective.parameters() if each.requires_grad)
        known = {"chance": task.chance, "hops": task.hops, "layers": objective.backbone.layer_count}
        files.write_json(directory / "env.json", environment() | {"parameters": trained} | known)
        if isinstance(task, Data):
            files.write_json(directory / CODING, task.keep())
        files.write_json(directory / "spec.json", spec.model_dump())
    return recorded_threads(directory)


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Within it, PyTorch computes with that many threads; afterwards, or where ``count`` is None, as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def recorded_threads(directory: Path) -> int | None:
    """The threads that a run began with, or None where it has not begun. Raises ``RequestError`` where ``env.json`` is
    damaged.

    Sums of several threads are added up in another order than those of one, and differ in their last bits. So whoever
    continues a run keeps to its number, on however many cores.
    """
    path = directory / "env.json"
    threads = read_environment(path).get("threads")
    if path.exists() and (threads is None or threads < 1):
        raise files.damaged(path, "it does not say how many threads the run has")
    return threads


def require_processes(spec: Settings, world: World) -> None:
    """Raises ``RequestError`` where a run is for another number of processes, they were given different ones, or this
    one has no GPU."""
    digests = world.all_gather_json(spec.digest)
    if spec.processes != world.world_size:
        are = f"{world.world_size} {'is' if world.world_size == 1 else 'are'} running"
        raise RequestError(
            f"this run is for processes={spec.processes}, but {are}; start it with torchrun and as many processes"
        )
    if len(set(digests)) > 1:
        raise RequestError("the processes were asked for different runs; give each the same command and data")
    gpu = torch.distributed.get_node_local_rank(0)
    if spec.device == "cuda" and world.world_size > 1 and gpu >= torch.cuda.device_count():
        raise RequestError(f"process {gpu + 1} here has no GPU; start at most one process a GPU")


def environment() -> dict[str, Any]:
    """What ``env.json`` records: versions, hardware and a digest of this package's code."""
    import foresee

    code = hashlib.sha256()
    for path in sorted(Path(foresee.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "foresee": foresee.__version__,
        "code": code.hexdigest()[:16],
        "python": platform.python_version(),
        # Asked of the installation: importing transformers would take a second.
        **{name: found for name in ("torch", "numpy", "safetensors", "transformers") if (found := _installed(name))},
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def best_device() -> str:
    """``cuda`` where PyTorch has it, else ``cpu``; ``mps`` has to be asked for, since nobody tests it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_device(device: str) -> bool:
    """Whether PyTorch has the device here."""
    if device == "mps":
        return torch.backends.mps.is_available()
    return device == "cpu" or torch.cuda.is_available()


def best_precision(device: str) -> str:
    """``bf16`` where the device multiplies it in hardware, else ``float32``."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    if device == "mps":
        return "float32"
    quick = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if quick else "float32"


def _installed(distribution: str) -> str | None:
    """The version that is installed; None where it is not, as transformers need not be."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
