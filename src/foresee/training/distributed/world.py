"""The processes that train one run together, as ``torchrun`` describes them, and how they talk.

Gradients travel in the default process group: gloo between processors, NCCL between GPUs. All else (errors, files'
contents, decisions) travels in a gloo group of its own, as JSON or plain tensors, never pickled. Its waits have no end
of their own, since one process may measure for hours while the others wait; that a process died is noticed by its
connection, and a wait lets signals through.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from foresee.core.errors import ForeseeError, RequestError
from foresee.training.distributed.waiting import LostProcessError, OtherProcessError, wait
from foresee.training.settings import Settings

T = TypeVar("T")

GRADIENTS_WITHIN = timedelta(minutes=10)
"""How long a process waits for another's gradients: processes differ by no more than how long a step takes them."""
FOR_EVER = timedelta(days=365)


@dataclass(frozen=True)
class World:
    """The processes of a run. Every method is called by all of them in the same order; in a world of one, ``ALONE``,
    nothing is sent."""

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks for all."""
        return self.rank == 0

    def refuse_unfit(self, spec: Settings) -> None:
        """Raises ``RequestError`` where ``spec`` is for another number of processes, where processes were given
        different ones, or where a process has no GPU of its own."""
        digests = self.exchanged(spec.digest)

        def check() -> None:
            if spec.processes != self.size:
                raise RequestError(
                    f"this run is for processes={spec.processes}, but {self.size} "
                    f"{'is' if self.size == 1 else 'are'} running; start it with torchrun and as many processes"
                )
            if len(set(digests)) > 1:
                raise RequestError(
                    "the processes were asked for different runs; give each the same command, data and device"
                )
            if spec.device == "cuda" and self.size > 1 and _local_rank() >= torch.cuda.device_count():
                raise RequestError(
                    f"PyTorch sees {torch.cuda.device_count()} GPUs, too few for process {_local_rank() + 1} of this "
                    "machine; start at most one process a GPU"
                )

        self.agreed(check)

    def spoken(self, error: ForeseeError) -> ForeseeError:
        """What this process raises where all raise ``error``: the first the error itself, which it prints."""
        return error if self.leads else OtherProcessError(str(error), error.status)

    # Doing ----------------------------------------------------------------------------------------------------------

    def agreed(self, work: Callable[[], T]) -> T:
        """What ``work`` gives here, once it is done everywhere. Where it fails on one process, all raise: the first
        process what went wrong, the others ``OtherProcessError``."""
        if self.size == 1:
            return work()
        failure: ForeseeError | None = None
        done: list[T] = []
        try:
            done.append(work())
        except LostProcessError:
            raise
        except ForeseeError as error:
            failure = error
        failures = [each for each in self.exchanged(_described(failure)) if each is not None]
        if failures:
            sentence, status = failures[0]["sentence"], failures[0]["status"]
            if not self.leads:
                raise OtherProcessError(sentence, status) from failure
            if failure is not None:
                raise failure
            raise RequestError(sentence) if status == RequestError.status else ForeseeError(sentence)
        return done[0]

    def led(self, work: Callable[[], T]) -> T:
        """What ``work`` gives on the first process, the only one to do it; JSON values, told to all. Where it fails,
        all raise."""
        if self.size == 1:
            return work()
        value = self.agreed(work) if self.leads else self.agreed(lambda: None)
        told: T = self.exchanged(value if self.leads else None)[0]
        return value if self.leads else told  # type: ignore[return-value]  # the leader has it

    def led_tensors(
        self, work: Callable[[], tuple[dict[str, Tensor], dict[str, Any]]]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As ``led``, of named tensors and JSON values beside them; the tensors lie on the CPU, one sent at a time."""
        if self.size == 1:
            return work()
        held: dict[str, Tensor] = {}

        def described() -> list[Any]:
            tensors, note = work()
            held.update(tensors)
            return [[[name, str(value.dtype), list(value.shape)] for name, value in tensors.items()], note]

        kinds, note = self.led(described)
        told: dict[str, Tensor] = {}
        for name, dtype, shape in kinds:
            kind = next(kind for kind in DTYPES if str(kind) == dtype)
            value = held.pop(name).cpu().contiguous() if self.leads else torch.empty(shape, dtype=kind)
            wait(dist.broadcast(value, 0, group=self.control, async_op=True))
            told[name] = value
        return told, note

    # Numbers --------------------------------------------------------------------------------------------------------

    def gathered(self, value: Tensor) -> Tensor:
        """[...] -> [size, ...] on the CPU, by rank."""
        own = value.detach().cpu().contiguous()
        each = [torch.empty_like(own) for _ in range(self.size)]
        wait(dist.all_gather(each, own, group=self.control, async_op=True))
        return torch.stack(each)

    def total(self, value: Tensor) -> Tensor:
        """The sum over processes, in the order of their ranks and in float64; alone the value as it is."""
        return value if self.size == 1 else self.gathered(value).double().sum(0)

    def stacked(self, value: Tensor) -> Tensor:
        """What a checkpoint keeps of a value that each process has its own of; ``own`` takes it apart."""
        return value if self.size == 1 else self.gathered(value)

    def own(self, stacked: Tensor) -> Tensor:
        """This process's part of ``stacked``."""
        return stacked if self.size == 1 else stacked[self.rank]

    def exchanged(self, value: Any) -> list[Any]:
        """What each process gives (JSON values), by rank."""
        if self.size == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = self.gathered(torch.tensor(len(own))).tolist()
        padded = torch.nn.functional.pad(own, (0, max(lengths) - len(own)))
        texts = self.gathered(padded)
        return [json.loads(bytes(text[:length].tolist())) for text, length in zip(texts, lengths, strict=True)]


ALONE = World()

DTYPES = (
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip
"""What a tensor that is told may hold."""


def _described(failure: ForeseeError | None) -> dict[str, Any] | None:
    return None if failure is None else {"sentence": str(failure), "status": failure.status}


# Joining ------------------------------------------------------------------------------------------------------------


def joined() -> World:
    """The world that ``torchrun`` described in this process's environment, joined until the process ends; that of
    the process group that the caller made; else ``ALONE``. Raises ``RequestError`` where the others cannot be
    reached."""
    if dist.is_available() and dist.is_initialized():
        return _talking() if dist.get_world_size() > 1 else ALONE
    if described_size() == 1:
        return ALONE
    gpus = torch.cuda.is_available()
    if gpus and _local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(_local_rank())
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=GRADIENTS_WITHIN)
        world = _talking()
    except (ValueError, RuntimeError) as error:
        raise RequestError(
            f"the other processes of this run were not reached ({str(error).splitlines()[0]}); start all of them with "
            "torchrun"
        ) from error
    # Not sooner: processes that leave at different moments could not meet again.
    atexit.register(dist.destroy_process_group)
    return world


def _talking() -> World:
    """The world of the default process group, with a group of its own to talk in."""
    return _in_group(dist.group.WORLD)


@cache
def _in_group(group: dist.ProcessGroup) -> World:
    return World(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=FOR_EVER))


def described_size() -> int:
    """How many processes ``torchrun`` started; 1 without it. Raises ``RequestError`` where its variables are no
    numbers."""
    # RANK too: some programs set WORLD_SIZE for purposes of their own.
    return _number("WORLD_SIZE") if "RANK" in os.environ and "WORLD_SIZE" in os.environ else 1


def _local_rank() -> int:
    return _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0


def _number(variable: str) -> int:
    text = os.environ[variable]
    if not text.isdecimal():
        raise RequestError(f"the environment variable {variable} is {text!r}, not a number as torchrun sets it")
    return int(text)
