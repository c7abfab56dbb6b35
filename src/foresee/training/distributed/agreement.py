"""Whether to stop, and whether to save: decided by all processes at the same step."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from foresee.training.distributed.waiting import wait
from foresee.training.distributed.world import World


class Agreement:
    """Asked after every step. Alone, the answer is the question. Among several, each step's question is sent while the
    next step is computed, and its answer is read after that one: nobody waits for it, a device least of all, and it
    comes a step late."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: tuple[Any, Tensor] | None = None

    def __call__(self, stop: bool, save: bool) -> tuple[bool, bool]:
        """(whether any process was asked to stop, whether the first wants to save)."""
        if self._world.size == 1:
            return stop, save
        answer = self.last()
        if answer[0]:
            return answer  # nobody asks again
        flags = torch.tensor([stop, save and self._world.leads], dtype=torch.int32)
        work = dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._world.control, async_op=True)
        self._asked = (work, flags)
        return answer

    def last(self) -> tuple[bool, bool]:
        """The answer to the question that is still out; no to both where there is none."""
        if self._asked is None:
            return False, False
        (work, flags), self._asked = self._asked, None
        wait(work)
        stop, save = flags.tolist()
        return bool(stop), bool(save)
