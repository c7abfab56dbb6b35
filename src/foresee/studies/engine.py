"""The one place where a study's missing runs are trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from foresee.errors import RequestError
from foresee.progress import Progress
from foresee.run_spec import RunSpec

Engine = Literal["local", "ray"]


def check_engine(engine: str) -> None:
    """Raises ``RequestError`` unless studies can be trained with it."""
    if engine not in get_args(Engine):
        raise RequestError(f"engine {engine!r} must be one of {', '.join(get_args(Engine))}")
    if engine == "ray":
        raise RequestError("engine 'ray' does not train studies yet; use --engine local")


def train_missing(
    specs: Sequence[RunSpec], root: Path, engine: str = "local", progress: Progress | None = None
) -> None:
    """Trains runs under ``root``, in the order given. Everything is checked before anything is trained: raises
    ``RequestError`` on the first spec that cannot be run, and what ``foresee.train.train`` raises."""
    from foresee.train import train

    check_engine(engine)
    checked: set[tuple[str, str, str]] = set()
    for spec in specs:
        parts = (spec.task, spec.objective, spec.backbone)
        if parts not in checked:
            spec.build_objective(spec.build_task())
            checked.add(parts)
    for spec in specs:
        train(spec, root, progress)
