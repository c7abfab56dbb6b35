"""Runs small enough to train within a test, and what of them must be the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.tasks.base import Task
from foresee.training.settings import Settings

TASK = "path-star:degree=2,length=3,nodes=10,goals=one"
BACKBONE = "transformer:layers=1,width=32,heads=2"
CANONICAL = TASK
EASY = "path-star:degree=2,length=2,nodes=8,goals=one"
"""Solved within SOLVING steps: the answer is a copy of the query."""
SOLVING: dict[str, Any] = {"steps": 80, "batch": 64, "lr": 1e-2, "warmup": 10, "eval_every": 20}
SETTINGS: dict[str, Any] = {
    "steps": 30, "batch": 32, "data": "fixed:2000", "test": 200, "eval_every": 10, "warmup": 5,
}  # fmt: skip

QUICK: dict[str, Any] = {"steps": 4, "eval_every": 2, "data": "fixed:300", "test": 40}
"""Changes to them where nothing need be learned."""

DETERMINISTIC = ("metrics.jsonl", "rows.jsonl", "examples.jsonl", "anatomy.json", "model.safetensors", "spec.json")
"""Files of a finished run that hold no times."""


def tiny(objective: str = "next-token", task: str = TASK, backbone: str = BACKBONE, **changes: Any) -> Settings:
    """A run of under a second."""
    return Settings.of(task, objective, backbone, **(SETTINGS | changes))


def shared(task: Task, a: Batch, b: Batch) -> Tensor:
    """[len(a)] bool: which rows of ``a`` hold a problem that is in ``b``."""
    return torch.from_numpy(numpy.isin(task.identity(a), task.identity(b)))


def arguments(runs: Path, *more: str) -> list[str]:
    """The same run on the command line, but for its objective, without ``train TASK``."""
    given = [f"--{key.replace('_', '-')}={value}" for key, value in SETTINGS.items()]
    return [f"--backbone={BACKBONE}", *given, f"--runs={runs}", *more]


def outcome(directory: Path) -> dict[str, bytes]:
    """The bytes of a finished run that must not depend on when, where or in how many pieces it was trained."""
    assert not (directory / "checkpoint").exists()
    return {name: (directory / name).read_bytes() for name in DETERMINISTIC}
