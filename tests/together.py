"""Several processes that train one run, each as ``torchrun`` would start it, on one machine."""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from foresee.cli import main

# Forked from a server that has imported what takes long.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["foresee.cli.train", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor"]
)


@dataclass(frozen=True)
class Plan:
    """What befalls one of the processes, at its ``update``-th update (from 1)."""

    rank: int = 0
    update: int = 0
    signal: int = signal.SIGKILL
    full_at: int = 0
    """The flush, from 1, at which the disk of each process is full."""
    save_seconds: float = -1.0
    """Between checkpoints; negative saves at every step."""


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def describe_world(rank: int, size: int, port: int) -> None:
    """Sets what ``torchrun`` sets."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="none",
    )  # fmt: skip
    torch.set_num_threads(1)


def befall(plan: Plan, rank: int) -> None:
    loop: Any = importlib.import_module("foresee.training.loop")  # ``foresee.train`` is also a function
    loop.SAVE_SECONDS = plan.save_seconds
    real, count = torch.optim.AdamW.step, 0

    def step(self: torch.optim.AdamW, *given: Any) -> Any:
        nonlocal count
        count += 1
        if (count, rank) == (plan.update, plan.rank):
            os.kill(os.getpid(), plan.signal)
        return real(self, *given)

    torch.optim.AdamW.step = step  # type: ignore[assignment,method-assign]
    flush, flushed = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal flushed
        flushed += 1
        if flushed == plan.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    os.fsync = fsync  # type: ignore[assignment]


def _command(rank: int, size: int, port: int, errors: Path, plan: Plan, argv: list[str]) -> None:
    for name, number in ((f"{errors}.{rank}", 2), (f"{errors}.{rank}.out", 1)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    describe_world(rank, size, port)
    befall(plan, rank)
    sys.argv = ["foresee", *argv]
    main()


def _call(rank: int, size: int, port: int, errors: Path, work: Callable[[], None]) -> None:
    os.dup2(os.open(f"{errors}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)
    describe_world(rank, size, port)
    work()


def _together(size: int, target: Callable[..., None], errors: Path, *more: Any) -> list[tuple[int, str]]:
    """Exit status and standard error of each process."""
    port = free_port()
    started: list[BaseProcess] = [
        processes.Process(target=target, args=(rank, size, port, errors, *more)) for rank in range(size)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(240)
    hung = [rank for rank, process in enumerate(started) if process.exitcode is None]
    for process in started:
        process.kill()
    assert not hung, f"still running: {hung}"
    return [
        (process.exitcode or 0, _without_noise(Path(f"{errors}.{rank}").read_text()))
        for rank, process in enumerate(started)
    ]


def _without_noise(said: str) -> str:
    """PyTorch says once that it looked for unused parameters and found none; nothing but its log level silences it."""
    noise = "Warning: find_unused_parameters=True was specified in DDP constructor"
    return "".join(line for line in said.splitlines(keepends=True) if noise not in line)


def commands(root: Path, argv: list[str], plan: Plan | None = None, size: int = 2) -> list[tuple[int, str]]:
    """The command ``foresee`` with these arguments in each process: exit status and standard error of each."""
    return _together(size, _command, root / "errors", plan or Plan(), argv)


def calls(root: Path, work: Callable[[], None], size: int = 2) -> list[tuple[int, str]]:
    """``work``, a function of a module, in each process: exit status and standard error of each."""
    return _together(size, _call, root / "errors", work)
