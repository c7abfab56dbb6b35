"""What is saved of a run in training and resumed: the files of one process, on however many it trains."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.objectives.base import Objective
from foresee.training.distributed import Model
from foresee.training.losses import Losses
from foresee.training.optimizer import restore, state_tensors


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
        self, directory: Path, model: Model, optimizer: torch.optim.Optimizer, losses: Losses, device: str
    ) -> None:
        self.directory, self.model, self.optimizer, self.losses, self.device = (
            directory, model, optimizer, losses, device,
        )  # fmt: skip
        self.objective, self.world = model.objective, model.world
        self.weights = directory / "model.safetensors"
        self.path = directory / "checkpoint" / "latest.safetensors"

    def save(self, position: Position) -> None:
        """Replaces the checkpoint by the state as it is."""
        tensors = {f"model.{name}": value for name, value in saved_weights(self.objective).items()}
        tensors |= state_tensors(self.objective, self.optimizer)
        tensors = self.model.gather(tensors) | self.losses.state_tensors()
        self.world.broadcast(lambda: files.write_tensors(self.path, tensors, asdict(position)))

    def resume(self) -> Position:
        """Loads the checkpoint where there is one; reports that came after it are cut off, to be written again."""

        def find() -> bool:
            files.remove_temporaries(self.path.parent)
            return self.path.exists()

        position = Position()
        if self.world.broadcast(find):
            tensors, position = self._load(self.path, "model.")
            restore(self.objective, self.optimizer, tensors, self.model.scatter)
            self.losses.restore(tensors)

        def cut() -> None:
            files.truncate(self.directory / "metrics.jsonl", position.metrics_bytes)
            files.truncate(self.directory / "timing.jsonl", position.timing_bytes)

        self.world.broadcast(cut)
        return position

    def save_weights(self, position: Position) -> None:
        """Writes the trained weights. No times: the same settings give the same bytes."""
        tensors = self.model.gather(saved_weights(self.objective))
        self.world.broadcast(lambda: files.write_tensors(self.weights, tensors, {"step": position.step}))

    def load_weights(self) -> Position | None:
        """Loads the trained weights, where training was over."""
        return self._load(self.weights, "")[1] if self.world.broadcast(self.weights.exists) else None

    def remove(self) -> None:
        """Deletes the checkpoint, which nobody needs once the trained weights are saved."""
        self.world.broadcast(lambda: shutil.rmtree(self.path.parent, ignore_errors=True))

    def _load(self, path: Path, prefix: str) -> tuple[dict[str, Tensor], Position]:
        """Loads the weights under ``prefix`` in a file; gives all of its tensors, and the position that it notes."""
        tensors, note = self.world.broadcast_tensors(lambda: files.read_tensors(path, self.device))

        def load() -> Position:
            position, own = _position(note, path), saved_weights(self.objective)
            weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            fitting = {name for name in weights.keys() & own.keys() if weights[name].shape == own[name].shape}
            load_weights(
                self.objective, weights | {name: self.model.scatter(weights[name], own[name]) for name in fitting}, path
            )
            return position

        return tensors, self.world.run_on_all(load)


def _position(note: dict[str, Any], path: Path) -> Position:
    try:
        return Position(**note)
    except TypeError:
        raise files.damaged(path, "its header does not say how far the run had come") from None


def saved_weights(objective: Objective) -> dict[str, Tensor]:
    """What a run saves of a model: everything but frozen weights, which the files behind its backbone hold."""
    frozen = {
        name for name, parameter in objective.named_parameters(remove_duplicate=False) if not parameter.requires_grad
    }
    return {name: value for name, value in objective.state_dict().items() if name not in frozen}


def load_weights(objective: Objective, tensors: dict[str, Tensor], path: Path) -> None:
    """Copies ``saved_weights`` in. Raises ``RequestError`` where names or shapes differ, as with another vocabulary, or
    one is not finite."""
    own = saved_weights(objective)
    for name in sorted(own.keys() | tensors.keys()):
        if name not in own or name not in tensors:
            raise RequestError(f"{path} does not fit this model: weight {name!r} is only on one side")
        if own[name].shape != tensors[name].shape:
            raise RequestError(
                f"{path} does not fit this model: weight {name!r} has shape {tuple(tensors[name].shape)}, but "
                f"{tuple(own[name].shape)} is needed; was it made for another vocabulary or size?"
            )
    for name, parameter in objective.named_parameters():
        if name in tensors and parameter.is_floating_point() and not bool(tensors[name].isfinite().all()):
            raise RequestError(
                f"{path}: weight {name!r} holds NaN or infinity, so the model is worth nothing; train it again"
            )
    objective.load_state_dict(tensors, strict=False)  # not strict: frozen weights are where they came from
