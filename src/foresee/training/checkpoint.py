"""What is saved of a run in training, and taken up again: the files of one process, on however many it trains."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresee.core import files
from foresee.training.distributed import Replica
from foresee.training.losses import Losses
from foresee.training.optimizer import restore, state_tensors
from foresee.training.run import load_weights, saved_weights


@dataclass
class Position:
    """How far a run has come: what a checkpoint notes beside its tensors."""

    step: int = 0
    seconds: float = 0.0
    metrics_bytes: int = 0
    timing_bytes: int = 0
    solved: bool = False


class Checkpoint:
    """The saved state of a run in training; its methods are called by all of its processes."""

    def __init__(
        self, directory: Path, replica: Replica, optimiser: torch.optim.Optimizer, losses: Losses, device: str
    ) -> None:
        self.directory, self.replica, self.optimiser, self.losses = directory, replica, optimiser, losses
        self.objective, self.world = replica.objective, replica.world
        self.model = directory / "model.safetensors"
        self.path = directory / "checkpoint" / "latest.safetensors"
        self.device = device

    def save(self, position: Position) -> None:
        """Replaces the checkpoint by the state as it is."""
        tensors = {f"model.{name}": value for name, value in saved_weights(self.objective).items()}
        tensors |= state_tensors(self.objective, self.optimiser)
        tensors = self.replica.gathered(tensors) | self.losses.tensors()
        self.world.led(lambda: files.write_tensors(self.path, tensors, asdict(position)))

    def resume(self) -> Position:
        """Takes up the checkpoint where there is one; reports that came after it are cut off, to be written again."""

        def found() -> bool:
            files.remove_temporaries(self.path.parent)
            return self.path.exists()

        position = Position()
        if self.world.led(found):
            tensors, position = self._take(self.path, "model.")
            restore(self.objective, self.optimiser, tensors, self.replica.placed)
            self.losses.restore(tensors)

        def cut() -> None:
            files.truncate(self.directory / "metrics.jsonl", position.metrics_bytes)
            files.truncate(self.directory / "timing.jsonl", position.timing_bytes)

        self.world.led(cut)
        return position

    def save_model(self, position: Position) -> None:
        """Writes the trained weights. No times: the same spec gives the same bytes."""
        weights = self.replica.gathered(saved_weights(self.objective))
        self.world.led(lambda: files.write_tensors(self.model, weights, {"step": position.step}))

    def take_model(self) -> Position:
        """Takes up the trained weights."""
        return self._take(self.model, "")[1]

    def _take(self, path: Path, prefix: str) -> tuple[dict[str, Tensor], Position]:
        """Takes up the weights under ``prefix`` in a file; all of its tensors, and the position that it notes."""
        tensors, note = self.world.led_tensors(lambda: files.read_tensors(path, self.device))

        def take() -> Position:
            position, own = _position(note, path), saved_weights(self.objective)
            weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            fitting = {name for name in weights.keys() & own.keys() if weights[name].shape == own[name].shape}
            placed = {name: self.replica.placed(weights[name], own[name]) for name in fitting}
            load_weights(self.objective, weights | placed, path)
            return position

        return tensors, self.world.agreed(take)


def _position(note: dict[str, Any], path: Path) -> Position:
    try:
        return Position(**note)
    except TypeError:
        raise files.damaged(path, "its header does not say how far the run had come") from None
