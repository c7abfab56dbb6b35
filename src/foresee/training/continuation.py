"""Training a finished run further: a new run, whose parent and its steps are part of its name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.training.checkpoint import Position
from foresee.training.loop import train
from foresee.training.process import locked
from foresee.training.progress import Progress
from foresee.training.run import Run


def continue_run(run: Run, more: int, root: str | Path | None = None, progress: Progress | None = None) -> Run:
    """Trains the weights of a finished run for ``more`` steps, on the data that come after those it has seen; ``root``
    is the folder beside it by default.

    A finished run keeps no optimizer state, so AdamW, its warm-up and the schedule begin anew. Raises ``RequestError``
    where the run's weights are gone or ``more`` is below 1, and what ``train`` raises.
    """
    if more < 1:
        raise RequestError(f"{more} more steps were asked for; ask for at least 1")
    before, digest = run.steps, run.spec.digest
    spec = run.spec.replace(steps=before + more, parent=digest, parent_steps=before)
    root = run.dir.parent if root is None else Path(root)
    directory = root / spec.digest
    if not any((directory / name).exists() for name in ("rows.jsonl", "model.safetensors", "checkpoint")):
        tensors, _ = files.read_tensors(run.dir / "model.safetensors")
        with files.explained(directory):
            directory.mkdir(parents=True, exist_ok=True)
        with locked(directory):
            started = {f"model.{name}": value for name, value in tensors.items()}
            files.write_tensors(directory / "checkpoint" / "latest.safetensors", started, asdict(Position(step=before)))
    return train(spec, root, progress)
