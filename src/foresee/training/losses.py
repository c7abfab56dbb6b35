"""Training losses since the last report: by part, and by place in the answer."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.objectives.base import LossOut
from foresee.training.distributed import Model, World

PLACES_SHOWN = 256
"""Answer places, from the first, whose training loss is reported each by itself."""


class Losses:
    """Sums over this process's rows, which stay on the device: reading one would make a GPU wait at every step."""

    def __init__(self, longest: int, device: str, world: World) -> None:
        """``longest`` is the task's longest answer."""
        self._places, self._device, self._world = min(longest, PLACES_SHOWN), device, world
        self._parts: dict[str, Tensor] = {}
        kind = sums_in(torch.device(device))
        self._by_position = torch.zeros(2, self._places, dtype=kind, device=device)

    def clear(self) -> None:
        """Begins anew, in the same memory: a recorded step adds to it where it lay when it was recorded."""
        for value in (*self._parts.values(), self._by_position):
            value.zero_()

    def add(self, batch: Batch, out: LossOut) -> None:
        """The losses of a part of a step's batch, as ``weigh`` gives them."""
        before, losses = self._parts, {"loss": out.total, **out.parts}
        # In the objective's order, also after ``restore``, so that a resumed run writes the same lines.
        self._parts = {
            name: before[name] if name in before else torch.zeros_like(value) for name, value in losses.items()
        }
        for name, value in losses.items():
            self._parts[name] += value.detach()
        self._by_position += losses_by_position(batch, out.per_token, self._places)

    def means(self, steps: int) -> dict[str, float]:
        """``loss`` and its parts, over all processes, by step."""
        return {name: float(self._world.all_reduce(value)) / steps for name, value in self._parts.items()}

    def by_position(self) -> list[float]:
        """Mean loss of each answer place over the rows of all processes that have it."""
        sums, counts = self._world.all_reduce(self._by_position).tolist()
        return [loss / count if count else 0.0 for loss, count in zip(sums, counts, strict=True)]

    def state_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it, every process's own beside each other."""
        sums = {f"sum.{name}": value for name, value in self._parts.items()} | {"by_position": self._by_position}
        return {name: self._world.all_gather(value) for name, value in sums.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes ``state_tensors``, among others, to where it left off."""

        def own(value: Tensor) -> Tensor:
            return (value if self._world.world_size == 1 else value[self._world.rank]).to(self._device)

        parts = {name.removeprefix("sum."): own(value) for name, value in tensors.items() if name.startswith("sum.")}
        places = own(tensors["by_position"]) if "by_position" in tensors else self._by_position
        fit = places.shape == self._by_position.shape and places.dtype == self._by_position.dtype
        if not fit or any(
            value.dim() or not value.is_floating_point() or not value.isfinite() for value in parts.values()
        ):
            raise RequestError("the checkpoint's sums of losses are not this task's; delete it and train again")
        self._parts |= parts
        self._by_position = places


def sums_in(device: torch.device) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def term_shares(model: Model, parts: list[Batch], rng: torch.Generator) -> list[dict[str, Tensor]]:
    """For each part of this process's batch, by name of a loss that does not average over answer tokens: its share of
    that loss's terms in all processes' ([K] of its ``means``). None where there is one part in all. Leaves ``rng`` as
    it was."""
    if len(parts) == model.world.world_size == 1:
        return [{} for _ in parts]
    state = rng.get_state()
    counts = [model.objective.count_terms(part, rng) for part in parts]
    rng.set_state(state)
    own = {name: torch.stack([each[name] for each in counts]).sum(0) for name in counts[0]}
    totals = {name: model.world.all_reduce(each).to(each).clamp_min(1) for name, each in own.items()}
    return [{name: each[name] / total for name, total in totals.items()} for each in counts]


def weigh(out: LossOut, share: float | Tensor, shares: dict[str, Tensor]) -> LossOut:
    """The losses of a part of a batch as what they add to the batch's: ``share`` of each but those in ``shares``."""
    if not shares and isinstance(share, float) and share == 1.0:
        return out
    parts = {
        name: (out.means.get(name, value) * shares[name]).sum() if name in shares else value * share
        for name, value in out.parts.items()
    }
    total = out.total * share
    for name in shares:
        total = total + (parts[name] - out.parts[name] * share)
    return LossOut(total, parts, out.per_token)


def losses_by_position(batch: Batch, per_token: Tensor, places: int) -> Tensor:
    """[2, places]: over the rows that have it, the sum of each answer place's loss (``LossOut.per_token`` [B, T]), and
    the number of those rows."""
    kind = sums_in(per_token.device)
    answers = per_token.to(kind)
    if batch.layout.uniform:
        answers = answers[:, batch.layout.first : batch.layout.last][:, :places]
        counts = answers.new_full((answers.shape[1],), len(batch))
        # A batch of a task with answers of several lengths may hold answers of one.
        return torch.nn.functional.pad(torch.stack((answers.sum(0), counts)), (0, places - answers.shape[1]))
    columns = torch.arange(places, device=per_token.device)
    inside = columns < batch.answer_len[:, None]
    source = (batch.prompt_len[:, None] + columns).clamp(max=per_token.shape[1] - 1)
    return torch.stack(((answers.gather(1, source) * inside).sum(0), inside.to(kind).sum(0)))
