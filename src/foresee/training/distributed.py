"""One run on several processes, as ``torchrun`` starts them: who takes part, and how each trains its part of the model.

Gradients travel in the default process group; errors, decisions and files' contents as JSON or plain tensors, never
pickled, in a gloo group without a time limit, since one process may measure for hours while others wait.
"""

from __future__ import annotations

import atexit
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.core.errors import ForeseeError, ForeseeWarning, OtherProcessError, RequestError
from foresee.objectives.base import LossOut, Objective

T = TypeVar("T")


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turns what PyTorch raises where a process is gone into ``OtherProcessError``."""
    try:
        yield
    except RuntimeError as error:
        # gloo says it in plain RuntimeErrors, from its network layer.
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise OtherProcessError(
                "another process of this run ended or no longer answers, so all of them end; what it said itself tells "
                "why, and the same command continues"
            ) from error
        raise


@dataclass(frozen=True)
class World:
    """The processes of a run. All of them call every method in the same order; in a world of one nothing is sent."""

    rank: int = 0
    world_size: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks for all."""
        return self.rank == 0

    def all_gather(self, value: Tensor) -> Tensor:
        """[...] -> [world_size, ...] on the CPU, by rank; alone the value as it is."""
        if self.world_size == 1:
            return value
        own = value.detach().cpu().contiguous()
        each = [torch.empty_like(own) for _ in range(self.world_size)]
        self._wait(dist.all_gather(each, own, group=self.control, async_op=True))
        return torch.stack(each)

    def all_reduce(self, value: Tensor) -> Tensor:
        """The sum over processes, in the order of their ranks and in float64; alone the value as it is."""
        return value if self.world_size == 1 else self.all_gather(value).double().sum(0)

    def any_of(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set on any process."""
        return [bool(count) for count in self.all_reduce(torch.tensor(flags, dtype=torch.int32)).tolist()]

    def all_gather_json(self, value: Any) -> list[Any]:
        """What each process gives, by rank."""
        if self.world_size == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = self.all_gather(torch.tensor(len(own))).tolist()
        texts = self.all_gather(nn.functional.pad(own, (0, max(lengths) - len(own))))
        return [json.loads(bytes(text[:length].tolist())) for text, length in zip(texts, lengths, strict=True)]

    def run_on_all(self, work: Callable[[], T]) -> T:
        """What ``work`` gives here, once it is done everywhere. Where it fails on one process all raise: the main one
        what went wrong, the others ``OtherProcessError``."""
        failure: ForeseeError | None = None
        try:
            result = work()
        except OtherProcessError:
            raise
        except ForeseeError as error:
            failure = error
        failures = [each for each in self.all_gather_json(failure and [str(failure), failure.status]) if each]
        if failures:
            sentence, status = failures[0]
            if self.is_main:
                raise failure or (RequestError(sentence) if status == RequestError.status else ForeseeError(sentence))
            raise OtherProcessError(sentence, status) from failure
        return result

    def broadcast(self, work: Callable[[], T]) -> T:
        """What ``work`` gives on the main process, the only one to do it; JSON values. Where it fails, all raise."""
        value = self.run_on_all(work if self.is_main else lambda: None)
        received = self.all_gather_json(value)[0]
        return received if value is None else value

    def broadcast_tensors(self, work: Callable[[], tuple[dict[str, Tensor], Any]]) -> tuple[dict[str, Tensor], Any]:
        """As ``broadcast``, of named tensors beside a JSON value; among several on the CPU, one sent at a time."""
        if self.world_size == 1:
            return work()
        tensors, note = self.run_on_all(work if self.is_main else lambda: ({}, None))
        kinds = [[name, str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in tensors.items()]
        received: dict[str, Tensor] = {}
        (kinds, note), *_ = self.all_gather_json([kinds, note])
        for name, dtype, shape in kinds:
            value = tensors.pop(name) if self.is_main else torch.empty(shape, dtype=getattr(torch, dtype))
            received[name] = value.cpu().contiguous()
            self._wait(dist.broadcast(received[name], 0, group=self.control, async_op=True))
        return received, note

    def own_error(self, error: ForeseeError) -> ForeseeError:
        """What this process raises where all raise ``error``: the main one the error itself, which it prints."""
        return error if self.is_main else OtherProcessError(str(error), error.status)

    @staticmethod
    def _wait(work: Any) -> None:
        nap = 1e-4
        with explain_lost_process():
            while not work.is_completed():  # not work.wait(), which no signal interrupts
                time.sleep(nap)
                nap = min(2 * nap, 0.02)
            work.wait()


def init_process_group() -> World:
    """The world that ``torchrun`` described, joined until the process ends, or that of the process group that the
    caller made; else a world of one. Raises ``RequestError`` where the others are not reached."""
    if not dist.is_initialized():
        # RANK too: some programs set WORLD_SIZE for purposes of their own.
        if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
            return World()
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # they would be waited for, for minutes and deaf to Ctrl-C
            _warn_of_leftovers(os.environ["RANK"], os.environ.get("WORLD_SIZE", ""))
            return World()
        gpus = torch.cuda.is_available()
        try:
            if gpus and local_rank() < torch.cuda.device_count():
                torch.cuda.set_device(local_rank())
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=timedelta(minutes=10))
        except (ValueError, RuntimeError) as error:
            said = str(error).splitlines()[0]
            raise RequestError(f"the other processes of this run were not reached ({said}); use torchrun") from error
        # Not sooner: processes that leave at different moments could not meet again.
        atexit.register(dist.destroy_process_group)
    return _world_of(dist.group.WORLD) if dist.get_world_size() > 1 else World()


@cache
def _warn_of_leftovers(rank: str, size: str) -> None:
    """Says so once."""
    left = f"RANK={rank} and WORLD_SIZE={size} are set, but not by torchrun"
    warnings.warn(f"{left}: this process trains alone", ForeseeWarning, stacklevel=3)


@cache
def _world_of(group: dist.ProcessGroup) -> World:
    return World(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=timedelta(days=365)))


def local_rank() -> int:
    """This process's number on its machine, and its GPU's."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class Model:
    """An objective as one process trains it: whole where it is alone, a copy (``DistributedDataParallel``), or shards
    (FSDP2's ``fully_shard``) where a backbone has layers to gather one at a time (``Backbone.shards``).

    The gradient is always that of the mean over the global batch, up to the order of additions.
    """

    def __init__(self, objective: Objective, device: str, world: World) -> None:
        self.objective, self.world = objective, world
        parts = [part for module in objective.modules() if isinstance(module, Backbone) for part in module.shards()]
        self._sharded = bool(parts) and world.world_size > 1
        self._root: nn.Module = _Call(objective)
        if self._sharded:  # from the CPU: no device ever holds all of it
            self._shard(parts, device)
        elif world.world_size == 1:
            objective.to(device)
        else:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of a name that is older
                # Looking for unused parameters also keeps gradients in the same buckets from the first step on: a
                # resumed run adds in the same order.
                self._root = DistributedDataParallel(
                    _Call(objective.to(device)), broadcast_buffers=False, gradient_as_bucket_view=True,
                    find_unused_parameters=True,
                )  # fmt: skip

    def _shard(self, parts: list[nn.Module], device: str) -> None:
        """Each of ``parts`` (inner ones first) is gathered while it computes; what belongs to none, or to several, for
        as long as a step or a measurement lasts."""
        from torch.distributed import device_mesh, fsdp, tensor  # a second's reading that nobody else needs

        self._fsdp, self._tensor = fsdp, tensor
        mesh, own = device_mesh.init_device_mesh(device, (self.world.world_size,)), []
        for part in parts:
            modules = {id(module) for module in part.modules()} - {id(part)}
            inner = {id(each) for other in parts if id(other) in modules for each in other.parameters()}
            own.append([id(each) for each in part.parameters() if id(each) not in inner])
        holders = Counter(each for held in own for each in held)
        self._outer = [name for name, each in self.objective.named_parameters() if id(each) not in holders]
        for part, held in zip(parts, own, strict=True):
            if held and all(holders[each] == 1 for each in held):
                fsdp.fully_shard(part, mesh=mesh)
        self._root = cast(nn.Module, fsdp.fully_shard(self._root, mesh=mesh))

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """``objective.loss``, whose gradients are averaged over processes."""
        if self.world.world_size == 1:
            return self.objective.loss(batch, rng)

        def compute() -> tuple[Tensor, dict[str, Tensor], Tensor]:
            out, total = self.objective.loss(batch, rng), torch.zeros(())
            if self._sharded:  # what a loss leaves out may differ by process, but the gradients averaged may not
                named = dict(self.objective.named_parameters())
                total = sum((named[each].sum() * 0 for each in self._outer if named[each].requires_grad), total)
            # As PyTorch's hooks look through it; only the total has a gradient.
            return out.total + total, {name: value.detach() for name, value in out.parts.items()}, out.per_token

        return LossOut(*self._call(compute))

    def _call(self, work: Callable[[], T]) -> T:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # nobody changes it in place
            return cast(T, self._root(work))

    def averaging(self, last: bool) -> AbstractContextManager[None]:
        """Around loss and backward pass of a part of a batch; gradients are averaged with the ``last`` part alone."""
        if self._sharded:
            cast(Any, self._root).set_requires_gradient_sync(last)
        alone = last or not isinstance(self._root, DistributedDataParallel)
        return nullcontext() if alone else cast(DistributedDataParallel, self._root).no_sync()

    def evaluate(self, work: Callable[[], T]) -> T | None:
        """What ``work`` gives, which reads the objective without gradients; None where this process only waits."""
        if not self._sharded:
            return self.world.run_on_all(work if self.world.is_main else lambda: None)

        def evaluate_gathered() -> T:
            with torch.no_grad(), explain_lost_process():
                found = self._call(work)
            for module in self._root.modules():
                if isinstance(module, self._fsdp.FSDPModule):
                    module.reshard()
            return found

        return self.world.run_on_all(evaluate_gathered)

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights or an optimizer's state, on the main process as one process alone has them."""
        if not self._sharded:
            return tensors
        kept: dict[str, Tensor] = {}
        for name, value in tensors.items():
            with explain_lost_process():
                full = value.full_tensor() if isinstance(value, self._tensor.DTensor) else value
            if self.world.is_main:
                kept[name] = full.detach().cpu()
        return kept

    def scatter(self, value: Tensor, like: Tensor) -> Tensor:
        """A tensor of ``gather``, the same on every process, as this process holds ``like``."""
        here = value.to(like.device)
        if not self._sharded or not isinstance(like, self._tensor.DTensor):
            return here
        # No source: each process takes its part of what it has, and nothing is sent.
        return cast(Tensor, self._tensor.distribute_tensor(here, like.device_mesh, like.placements, src_data_rank=None))


class _Call(nn.Module):
    """Does whatever it is called with, so that PyTorch's hooks stand around all of an objective's methods."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, work: Callable[[], T]) -> T:
        return work()
