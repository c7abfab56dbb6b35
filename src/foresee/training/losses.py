"""Training losses since the last report: by part, and by place in the answer."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.objectives.base import LossOut
from foresee.training.distributed import World

PLACES_SHOWN = 256
"""Answer places, from the first, whose training loss is reported each by itself."""


class Losses:
    """Sums that stay on the device: reading one would make a GPU wait at every step. Each process has those of its own
    rows."""

    def __init__(self, longest: int, device: str, world: World) -> None:
        """``longest`` is the task's longest answer."""
        self._places, self._device, self._world = min(longest, PLACES_SHOWN), device, world
        self.clear()

    def clear(self) -> None:
        """Begins anew."""
        self._parts: dict[str, Tensor] = {}
        self._by_position = torch.zeros(2, self._places, dtype=torch.float64, device=self._device)

    def add(self, batch: Batch, out: LossOut) -> None:
        """The losses of one update."""
        for name, value in {"loss": out.total, **out.parts}.items():
            self._parts[name] = self._parts.get(name, torch.zeros_like(value)) + value.detach()
        self._by_position += losses_by_position(batch, out.per_token, self._places)

    def means(self, steps: int) -> dict[str, float]:
        """``loss`` and its parts, of all processes, by step."""
        return {name: float(self._world.total(value)) / steps for name, value in self._parts.items()}

    def by_position(self) -> list[float]:
        """Mean loss of each answer place over the rows of all processes that have it."""
        sums, counts = self._world.total(self._by_position).tolist()
        return [loss / count if count else 0.0 for loss, count in zip(sums, counts, strict=True)]

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        stacked = {f"sum.{name}": self._world.stacked(value) for name, value in self._parts.items()}
        return stacked | {"by_position": self._world.stacked(self._by_position)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes up ``tensors``, among others, where it left off."""
        for name, value in tensors.items():
            if name.startswith("sum."):
                self._parts[name.removeprefix("sum.")] = self._world.own(value).to(self._device)
        if "by_position" in tensors:
            self._by_position = self._world.own(tensors["by_position"]).to(self._device)


def losses_by_position(batch: Batch, per_token: Tensor, places: int) -> Tensor:
    """[2, places]: over the rows that have it, the sum of each answer place's loss (``LossOut.per_token`` [B, T]), and
    the number of those rows."""
    answers = per_token.double()
    if batch.layout.uniform:
        answers = answers[:, batch.layout.first : batch.layout.last][:, :places]
        counts = answers.new_full((answers.shape[1],), len(batch))
        # A batch of a task with answers of several lengths may hold answers of one.
        return torch.nn.functional.pad(torch.stack((answers.sum(0), counts)), (0, places - answers.shape[1]))
    columns = torch.arange(places, device=per_token.device)
    inside = columns < batch.answer_len[:, None]
    source = (batch.prompt_len[:, None] + columns).clamp(max=per_token.shape[1] - 1)
    return torch.stack(((answers.gather(1, source) * inside).sum(0), inside.double().sum(0)))
