"""What is saved of a run in training and resumed: the files of one process, on however many it trains."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.objectives.base import Objective
from foresee.training import records
from foresee.training.optimizer import MOMENTS, restore, state_tensors

if TYPE_CHECKING:
    from foresee.training.step import Training


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

    def __init__(self, directory: Path, training: Training) -> None:
        self.directory, self.training, self.model = directory, training, training.model
        self.objective, self.world = self.model.objective, self.model.world
        self.weights = directory / "model.safetensors"
        self.path = directory / "checkpoint" / "latest.safetensors"

    def save(self) -> None:
        """Replaces the checkpoint by the state as it is."""
        tensors = {f"model.{name}": value for name, value in saved_weights(self.objective).items()}
        tensors |= state_tensors(self.objective, self.training.optimizer)
        tensors = self.model.gather(tensors) | self.training.losses.state_tensors()
        self.world.broadcast(lambda: files.write_tensors(self.path, tensors, asdict(self.training.position)))

    def resume(self) -> None:
        """Loads the checkpoint where there is one; reports that came after it are cut off, to be written again."""

        def find() -> bool:
            files.remove_temporaries(self.path.parent)
            return self.path.exists()

        def cut() -> None:
            position = self.training.position
            reports: list[tuple[str, int, TypeAdapter[Any]]] = [
                ("metrics.jsonl", position.metrics_bytes, records.REPORT),
                ("timing.jsonl", position.timing_bytes, records.TIMING),
            ]
            for name, end, kind in reports:
                path = self.directory / name
                files.truncate(path, end)
                # What would be refused once all is trained is refused now.
                records.read_lines(path, kind)
                if end and not path.read_bytes().endswith(b"\n"):
                    raise files.damaged(path, "its last line does not end")

        if self.world.broadcast(find):
            tensors = self._load(self.path, "model.")
            self.world.run_on_all(lambda: self._check_moments(tensors))
            restore(self.objective, self.training.optimizer, tensors, self.model.scatter)
            self.training.losses.restore(tensors)
        self.world.broadcast(cut)

    def save_weights(self) -> None:
        """Writes the trained weights. No times: the same settings give the same bytes."""
        tensors, note = self.model.gather(saved_weights(self.objective)), {"step": self.training.position.step}
        self.world.broadcast(lambda: files.write_tensors(self.weights, tensors, note))

    def load_weights(self) -> bool:
        """Loads the trained weights where training was over, as it says."""
        over = self.world.broadcast(self.weights.exists)
        if over:
            self._load(self.weights, "")
        return over

    def remove(self) -> None:
        """Deletes the checkpoint, which nobody needs once the trained weights are saved."""
        self.world.broadcast(lambda: shutil.rmtree(self.path.parent, ignore_errors=True))

    def _load(self, path: Path, prefix: str) -> dict[str, Tensor]:
        """Loads the weights under ``prefix`` in a file and the position that it notes; gives all of its tensors."""
        tensors, note = self.world.broadcast_tensors(lambda: files.read_tensors(path, self.training.spec.device))

        def load() -> None:
            kinds = {name: type(value) for name, value in asdict(Position()).items()}
            if not all(type(value) is kinds.get(name) and 0 <= value < math.inf for name, value in note.items()):
                raise files.damaged(path, "its header does not say how far the run had come")
            self.training.position = Position(**note)
            own = saved_weights(self.objective)
            weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            fitting = {name for name in weights.keys() & own.keys() if weights[name].shape == own[name].shape}
            load_weights(
                self.objective, weights | {name: self.model.scatter(weights[name], own[name]) for name in fitting}, path
            )

        self.world.run_on_all(load)
        return tensors

    def _check_moments(self, tensors: dict[str, Tensor]) -> None:
        """Raises ``RequestError`` unless what the optimizer kept of a parameter is there in full, or not at all."""
        for name, parameter in self.objective.named_parameters():
            kept = [tensors.get(f"optimiser.{key}.{name}") for key in MOMENTS]
            step, *moments = kept
            if any(value is not None for value in kept) and not (
                step is not None
                and _fits(step, torch.zeros(()))
                and all(value is not None and _fits(value, parameter) for value in moments)
            ):
                raise files.damaged(self.path, f"it does not hold what the optimizer kept of weight {name!r}")


def _fits(kept: Tensor, like: Tensor) -> bool:
    return kept.shape == like.shape and kept.dtype == like.dtype and bool(kept.isfinite().all())


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
