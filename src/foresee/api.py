"""What ``import foresee`` offers: the command line's words as functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foresee.backbones.base import Backbone, backbones, refuse_missing
from foresee.core.errors import RequestError
from foresee.core.seeds import torch_stream
from foresee.core.spec import describe, resolve
from foresee.core.vocabulary import Vocabulary
from foresee.experiments.studies.run import study
from foresee.objectives.base import Objective, objectives
from foresee.tasks.base import Task, tasks
from foresee.training.loop import train as train_spec
from foresee.training.progress import Progress
from foresee.training.run import Run, load
from foresee.training.settings import Settings

__all__ = ["backbone", "load", "objective", "study", "task", "train"]


def task(spec: str) -> Task:
    """The task of a spec string, e.g. ``path-star:degree=2,length=5,nodes=50``."""
    return resolve(tasks, spec).build()


def backbone(spec: str, vocab: Vocabulary | None = None, *, vocab_size: int | None = None, seed: int = 0) -> Backbone:
    """A backbone of a spec string or preset, e.g. ``transformer:layers=3,width=128,heads=4``, with fresh weights drawn
    by ``seed`` (but for ``hf:``, which loads them).

    It reads and scores the tokens of ``vocab``, or ``vocab_size`` tokens whose symbols are their numbers. Raises
    ``RequestError`` where not exactly one of the two is given.
    """
    if (vocab is None) == (vocab_size is None):
        raise RequestError("a backbone needs either vocab=..., e.g. task.vocab, or vocab_size=...")
    vocab = vocab or Vocabulary(tuple(map(str, range(vocab_size or 0))))
    resolved = resolve(backbones, spec)
    return resolved.build(vocab, torch_stream("weights", resolved.text, seed))


def objective(spec: str, backbone: Backbone, vocab: Vocabulary, *, seed: int = 0) -> Objective:
    """An objective of a spec string on a backbone. Its symbols must be in ``vocab``, and the backbone's vocabulary as
    large; raises ``RequestError`` otherwise or where the backbone lacks a capability."""
    resolved = resolve(objectives, spec)
    refuse_missing(resolved.cls.needs, resolved.text, backbone, type(backbone).__name__)
    return resolved.build(backbone, vocab, torch_stream("weights", resolved.text, seed))


def train(
    task: str | Task,
    objective: str = "next-token",
    backbone: str = "gpt-nano",
    *,
    root: str | Path = "runs",
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Trains, measures and saves a run, or continues or returns the one of the same settings under ``root``.

    ``settings`` are the other fields of ``Settings``: steps, batch, lr, seed, data and so on, each with its default.
    Raises ``RequestError`` on anything that cannot be.
    """
    text = task if isinstance(task, str) else describe(tasks, task)
    return train_spec(Settings.of(text, objective, backbone, **settings), root, progress)
