"""What each process of a run trains with: the whole model, a copy of it, or a shard.

All three compute the same gradient, that of the mean over the global batch, up to the order of additions.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.objectives.base import LossOut, Objective
from foresee.training.distributed.waiting import losses_explained
from foresee.training.distributed.world import ALONE, World
from foresee.training.settings import Settings

T = TypeVar("T")

VIEWS = "FSDP2-wrapped module .* returned a view tensor"
"""PyTorch warns that final states may be a view, which nobody may change in place; nobody does."""


class Replica(ABC):
    """One process's part in training an objective."""

    def __init__(self, objective: Objective, world: World) -> None:
        self.objective, self.world = objective, world

    @abstractmethod
    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """``objective.loss``, through what its gradients are shared by."""

    @abstractmethod
    def sharing(self, last: bool) -> AbstractContextManager[None]:
        """Around the loss and backward pass of one part of a batch: gradients are averaged over processes with the
        ``last`` part alone, and added up here before that."""

    @abstractmethod
    def examined(self, work: Callable[[], T]) -> T | None:
        """What ``work`` gives, which reads the trained objective without gradients; None on a process that is not
        needed for it, and only waits. Where it fails, all raise."""

    def gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights, or an optimiser's state, as one process alone has them; called by all, and used by the first."""
        return tensors

    def placed(self, value: Tensor, like: Tensor) -> Tensor:
        """A tensor of ``gathered``, the same on every process, as this process holds ``like``."""
        return value.to(like.device)


class Whole(Replica):
    """The only process."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective, ALONE)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        return self.objective.loss(batch, rng)

    def sharing(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def examined(self, work: Callable[[], T]) -> T | None:
        return work()


class Copied(Replica):
    """A copy of the whole model on each process; PyTorch's ``DistributedDataParallel`` averages gradients while the
    backward pass goes on."""

    def __init__(self, objective: Objective, world: World) -> None:
        super().__init__(objective, world)
        # Which parameters have a part in the loss may differ by batch and process. Looking for those that have none
        # also keeps gradients in the same buckets from the first step on: a resumed run adds in the same order.
        with _unwarned("`broadcast_buffers` is deprecated"):  # for a name that older versions do not know
            self._model = DistributedDataParallel(
                Root(objective), broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
            )

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        return LossOut(*self._model(lambda: _plain(self.objective.loss(batch, rng))))

    def sharing(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else self._model.no_sync()

    def examined(self, work: Callable[[], T]) -> T | None:
        return self.world.agreed(work if self.world.leads else lambda: None)


class Sharded(Replica):
    """A shard on each process."""

    def __init__(self, objective: Objective, parts: list[nn.Module], device: str, world: World) -> None:
        """``parts`` are gathered one at a time, inner ones first."""
        from foresee.training.distributed import shards  # a second's reading that nobody else needs

        super().__init__(objective, world)
        self._shards = shards
        self._root: Any = Root(objective)
        shards.shard(self._root, parts, device, world)
        # Of everything that no part holds: what of it a loss leaves out may differ by batch and process, but the
        # gradients that are averaged may not.
        inner = {id(parameter) for part in parts for parameter in part.parameters()}
        self._outer = [name for name, each in objective.named_parameters() if id(each) not in inner]

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        def compute() -> tuple[Tensor, dict[str, Tensor], Tensor]:
            total, parts, per_token = _plain(self.objective.loss(batch, rng))
            named = dict(self.objective.named_parameters())
            outer = [named[name] for name in self._outer]
            touched = torch.stack([each.sum() * 0 for each in outer if each.requires_grad]).sum() if outer else 0
            return total + touched, parts, per_token

        with _unwarned(VIEWS):
            return LossOut(*self._root(compute))

    def sharing(self, last: bool) -> AbstractContextManager[None]:
        self._root.set_requires_gradient_sync(last)
        return nullcontext()

    def examined(self, work: Callable[[], T]) -> T | None:
        def with_outer() -> T:
            with torch.no_grad(), losses_explained(), _unwarned(VIEWS):
                found: T = self._root(work)
            self._shards.let_go(self._root)
            return found

        return self.world.agreed(with_outer)

    def gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        with losses_explained():
            return self._shards.gathered(tensors, self.world)

    def placed(self, value: Tensor, like: Tensor) -> Tensor:
        return self._shards.placed_like(value, like)


class Root(nn.Module):
    """A module that does whatever it is called with, so that the hooks that share gradients and gather parameters
    stand around all of an objective's methods."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, work: Callable[[], T]) -> T:
        """What ``work`` gives."""
        return work()


@contextmanager
def _unwarned(message: str) -> Iterator[None]:
    """Within it, PyTorch's warning that begins so is not shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message)
        yield


def _plain(out: LossOut) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """A loss as PyTorch's hooks look through it; only the total has a gradient."""
    return out.total, {name: value.detach() for name, value in out.parts.items()}, out.per_token


def replica_of(objective: Objective, spec: Settings, world: World) -> Replica:
    """This process's part in training ``objective``, on the run's device: shards where a backbone has layers to gather
    one at a time (``Backbone.shards``), copies elsewhere."""
    if world.size == 1:
        return Whole(objective.to(spec.device))
    parts = [part for module in objective.modules() if isinstance(module, Backbone) for part in module.shards()]
    if parts:
        # From the CPU: no device ever holds all of it.
        return Sharded(objective, parts, spec.device, world)
    return Copied(objective.to(spec.device), world)
