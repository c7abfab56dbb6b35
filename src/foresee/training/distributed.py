"""One run on several processes, as ``torchrun`` starts them: who takes part, and how each trains its part of the model.

Gradients travel in the default process group; all else as JSON or plain tensors, never pickled, in a gloo group without
a time limit, since one process may measure for hours while others wait.
"""

from __future__ import annotations

import atexit
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.core.errors import ForeseeError, ForeseeWarning, OtherProcessError, RequestError, explain_lost_process
from foresee.objectives.base import LossOut, Objective

T = TypeVar("T")


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
        for sentence, status in filter(None, self.all_gather_json(failure and [str(failure), failure.status])):
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
        own = [[name, str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in tensors.items()]
        kinds, note = self.all_gather_json([own, note])[0]
        for name, dtype, shape in kinds:
            value = tensors.pop(name) if self.is_main else torch.empty(shape, dtype=getattr(torch, dtype))
            tensors[name] = value.cpu().contiguous()
            self._wait(dist.broadcast(tensors[name], 0, group=self.control, async_op=True))
        return tensors, note

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
        rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE", "1")
        if rank is None or size == "1":  # some programs set WORLD_SIZE for purposes of their own
            return World()
        if not dist.is_torchelastic_launched():  # they would be waited for, for minutes and deaf to Ctrl-C
            left = f"RANK={rank} and WORLD_SIZE={size} are set, but not by torchrun"
            warnings.warn(f"{left}: this process trains alone", ForeseeWarning, stacklevel=2)
            return World()
        try:
            if (gpu := dist.get_node_local_rank(0)) < torch.cuda.device_count():
                torch.cuda.set_device(gpu)
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=timedelta(minutes=10))
        except (ValueError, RuntimeError) as error:
            said = str(error).splitlines()[0]
            raise RequestError(f"the other processes of this run were not reached ({said}); use torchrun") from error
        # Not sooner: processes that leave at different moments could not meet again.
        atexit.register(dist.destroy_process_group)
    return _world_of(dist.group.WORLD) if dist.get_world_size() > 1 else World()


@cache
def _world_of(group: dist.ProcessGroup) -> World:
    return World(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=timedelta(days=365)))


class Model:
    """An objective as one process trains it: whole where it is alone, a copy (``DistributedDataParallel``), or shards
    (FSDP2's ``fully_shard``) where a backbone has layers to gather one at a time. Gradients are the global batch's."""

    def __init__(self, objective: Objective, device: str, world: World) -> None:
        self.objective, self.world = objective, world
        parts = [part for module in objective.modules() if isinstance(module, Backbone) for part in module.shards()]
        self._sharded, self._outer = bool(parts) and world.world_size > 1, list[str]()
        self._root: nn.Module = _Call([objective])
        if self._sharded:  # from the CPU: no device ever holds all of it
            self._shard(parts, device)
            return
        objective.to(device)
        if world.world_size > 1:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of a name that is older
                # Looking for unused parameters also keeps gradients in the same buckets from the first step on: a
                # resumed run adds in the same order.
                self._root = DistributedDataParallel(
                    self._root, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
                )

    def _shard(self, parts: list[nn.Module], device: str) -> None:
        """Each of ``parts`` (inner ones first) is gathered while it computes; what belongs to none, or to several, for
        as long as a step or a measurement lasts."""
        from torch.distributed import device_mesh, fsdp, tensor  # a second's reading that nobody else needs

        self._tensor = tensor
        own: dict[nn.Module, set[nn.Parameter]] = {}
        mesh = device_mesh.init_device_mesh(device, (self.world.world_size,))
        for part in parts:
            below = set(part.modules()) - {part}
            inner = {each for other in parts if other in below for each in other.parameters()}
            own[part] = set(part.parameters()) - inner
        holders = Counter(each for held in own.values() for each in held)
        self._outer = [name for name, each in self.objective.named_parameters() if each not in holders]
        for part, held in own.items():
            if held and all(holders[each] == 1 for each in held):
                fsdp.fully_shard(part, mesh=mesh)
        self._root = cast(nn.Module, fsdp.fully_shard(self._root, mesh=mesh))

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """``objective.loss``, whose gradients are averaged over processes."""
        if self.world.world_size == 1:
            return self.objective.loss(batch, rng)
        found: list[LossOut] = []

        def compute() -> Tensor:  # PyTorch's hooks see the total alone
            found.append(self.objective.loss(batch, rng))
            named = dict(self.objective.named_parameters())
            # What a loss leaves out may differ by process, but the gradients averaged may not.
            outer = (named[each].sum() * 0 for each in self._outer if named[each].requires_grad)
            return sum(outer, found[0].total)

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # nobody changes it in place
            total: Tensor = self._root(compute)
        return replace(found[0], total=total)

    def average_gradients(self, last: bool) -> None:
        """Before loss and backward pass of a part of a batch: gradients are averaged with the ``last`` part alone."""
        if self._sharded:
            cast(Any, self._root).set_requires_gradient_sync(last)
        elif self.world.world_size > 1:
            cast(Any, self._root).require_backward_grad_sync = last

    def evaluate(self, work: Callable[[], T]) -> T | None:
        """What ``work`` gives, which reads the objective without gradients; None where this process only waits."""

        def evaluate_gathered() -> T:
            with torch.no_grad(), explain_lost_process():
                found: T = self._root(work)
            cast(Any, self._root).reshard()
            return found

        alone: Callable[[], T | None] = work if self.world.is_main else lambda: None
        return self.world.run_on_all(evaluate_gathered if self._sharded else alone)

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


class _Call(nn.ModuleList):
    """Does whatever it is called with, so that PyTorch's hooks stand around all methods of the objective in it."""

    def forward(self, work: Callable[[], T]) -> T:
        """What ``work`` gives."""
        return work()
