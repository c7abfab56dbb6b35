"""Where training and test examples come from.

Every problem belongs to one split for good: a hash of its identity puts one in eight into the test split and the others
into the training split. Sampling a split draws examples and keeps those whose problem belongs to it, so that training
and test examples share no problem, whatever their seeds, and none needs to be looked up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee import seeds
from foresee.batch import Batch
from foresee.errors import RequestError
from foresee.mixing import Words, mix
from foresee.tasks.base import Task
from foresee.textfiles import read_examples, write_examples

__all__ = [
    "File", "Fixed", "FixedData", "Fresh", "FreshData", "Source", "Split", "TrainingData", "draw", "in_test",
    "overlap", "parse_data", "read_examples", "require_groups", "shared", "write_examples",
]  # fmt: skip

Split = Literal["train", "test"]

BLOCK = 8192
"""Rows drawn at a time by ``draw``."""

PATIENCE = 32
"""Blocks without one example of the split, from the first on, after which a split is called empty."""


def in_test(identity: Words) -> NDArray[numpy.bool_]:
    """[B] uint64 -> [B] bool: which problems belong to the test split (one in eight)."""
    # Mixed again, so that the choice is uniform even where a task's fingerprints are not.
    belongs: NDArray[numpy.bool_] = mix(identity) >> numpy.uint64(61) == 0
    return belongs


def draw(task: Task, task_text: str, split: Split, n: int, seed: int) -> Batch:
    """The first ``n`` examples of a split under a seed; ``task_text`` is the canonical spec of ``task``.

    The examples for a smaller ``n`` are the first of those for a larger one. A task with fewer problems than ``n``
    repeats them. Raises ``RequestError`` where ``n`` is below 1 or the split holds no problem at all.
    """
    if n < 1:
        raise RequestError(f"{n} {split} examples were asked for; ask for at least 1")
    rows = max(1, BLOCK // task.group) * task.group
    return _kept(task, task_text, split, n, rows, lambda block: seeds.stream("data", task_text, split, seed, block))


def _kept(
    task: Task,
    task_text: str,
    split: Split,
    n: int,
    rows: int,
    stream: Callable[[int], numpy.random.Generator],
) -> Batch:
    """The first ``n`` examples of a split out of blocks of ``rows`` rows, whole groups each."""
    pieces: list[Batch] = []
    have = block = 0
    while have < n:
        if not pieces and block == PATIENCE:
            raise RequestError(
                f"{task_text}: none of {PATIENCE * rows} examples drawn belongs to the {split} split; "
                "the task has too few problems to be split into training and test problems"
            )
        drawn = task.sample(rows, stream(block))
        inside = numpy.flatnonzero(in_test(task.identity(drawn)) == (split == "test"))[: n - have]
        if len(inside):
            pieces.append(drawn.rows(torch.from_numpy(inside)))
        have += len(inside)
        block += 1
    return joined(pieces)


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches one below the other; narrower ones are padded with token 0."""
    if len(batches) == 1:
        return batches[0]
    width = max(batch.tokens.shape[1] for batch in batches)
    tokens = torch.cat([torch.nn.functional.pad(batch.tokens, (0, width - batch.tokens.shape[1])) for batch in batches])
    prompt_len = torch.cat([batch.prompt_len for batch in batches])
    answer_len = torch.cat([batch.answer_len for batch in batches])
    facts = {name: torch.cat([batch.facts[name] for batch in batches]) for name in batches[0].facts}
    layout = batches[0].layout
    if layout.uniform and all(batch.layout == layout for batch in batches):
        # What holds for every piece holds for the whole, without a look at the lengths (which may be on a device).
        return Batch(tokens, prompt_len, answer_len, layout, facts)
    return Batch.of(tokens, prompt_len, answer_len, facts)


class TrainingData(Protocol):
    """Training batches by step: the same step and size always give the same batch."""

    def batch_at(self, step: int, size: int) -> Batch:
        """The batch of one step (from 0) of a run whose batches all have ``size`` rows."""
        ...


class FixedData:
    """A fixed set of examples, each seen once an epoch, in a new order every epoch."""

    def __init__(self, batch: Batch, task_text: str, seed: int, group: int = 1) -> None:
        """``group`` consecutive rows of ``batch`` stay side by side (``Task.group``). Batches are on the device of
        ``batch``. Raises ``RequestError`` where ``batch`` does not hold whole groups."""
        if not len(batch) or len(batch) % group:
            raise RequestError(
                f"{len(batch)} training examples are no whole number of groups of {group}, which this task keeps "
                f"together; use a multiple of {group}"
            )
        self.batch = batch
        self.group = group
        # Two orders are kept, since a batch may hold the end of one epoch and the start of the next.
        self._order = lru_cache(maxsize=2)(lambda epoch: _order(batch, group, task_text, seed, epoch))

    def __len__(self) -> int:
        return len(self.batch)

    def batch_at(self, step: int, size: int) -> Batch:
        """Rows ``step * size`` to ``(step + 1) * size`` of the endless sequence of epochs. Raises ``RequestError``
        where ``size`` is not a multiple of the group."""
        _require_whole(size, self.group)
        at, end = step * size, (step + 1) * size
        pieces: list[Tensor] = []
        while at < end:
            epoch, place = divmod(at, len(self))
            pieces.append(self._order(epoch)[place : place + end - at])
            at += len(pieces[-1])
        return self.batch.rows(pieces[0] if len(pieces) == 1 else torch.cat(pieces))


def _order(batch: Batch, group: int, task_text: str, seed: int, epoch: int) -> Tensor:
    """[len(batch)] the order of rows in an epoch, on the device of the batch."""
    groups = seeds.stream("order", task_text, seed, epoch).permutation(len(batch) // group)
    rows = (groups[:, None] * group + numpy.arange(group)).reshape(-1)
    return torch.from_numpy(rows).to(batch.tokens.device)


class FreshData:
    """New examples of the training split at every step."""

    def __init__(self, task: Task, task_text: str, seed: int) -> None:
        """``task_text`` is the canonical spec of ``task``."""
        self.task = task
        self.task_text = task_text
        self.seed = seed

    def batch_at(self, step: int, size: int) -> Batch:
        """[size] examples from a stream of this step's own, on the CPU. Raises ``RequestError`` where ``size`` is not a
        multiple of the task's group or the training split is empty."""
        group = self.task.group
        _require_whole(size, group)
        # Seven in eight groups are kept; five standard deviations more are drawn, so that one draw nearly always does.
        groups = size // group
        drawn = math.ceil(groups * 8 / 7 + 2 * math.sqrt(groups)) + 4
        return _kept(
            self.task,
            self.task_text,
            "train",
            size,
            drawn * group,
            lambda block: seeds.stream("data", self.task_text, "fresh", self.seed, step, block),
        )


def _require_whole(size: int, group: int) -> None:
    if size < 1 or size % group:
        raise RequestError(
            f"batch={size}, but this task keeps groups of {group} rows together, so batch must be a multiple of {group}"
            if group > 1
            else f"batch={size}, but a batch has at least 1 row"
        )


def require_groups(task: Task, batch: Batch, where: str) -> None:
    """Raises ``RequestError``, which starts with ``where``, unless every ``task.group`` consecutive rows of a batch
    that came from outside hold one problem."""
    identity = task.identity(batch)
    whole = len(batch) // task.group * task.group
    groups = identity[:whole].reshape(-1, task.group)
    broken = numpy.flatnonzero((groups != groups[:, :1]).any(axis=1))
    if len(broken) or whole < len(batch):
        row = int(broken[0]) * task.group if len(broken) else whole
        raise RequestError(
            f"{where}: the {task.group} examples from number {row + 1} on must hold the same problem, which this task "
            "keeps together"
        )


def shared(task: Task, a: Batch, b: Batch) -> Tensor:
    """[len(a)] bool: which rows of ``a`` hold a problem that is in ``b``."""
    return torch.from_numpy(numpy.isin(task.identity(a), task.identity(b)))


def overlap(task: Task, a: Batch, b: Batch) -> int:
    """How many different problems of ``b`` are in ``a`` too."""
    return len(numpy.intersect1d(task.identity(a), task.identity(b)))


@dataclass(frozen=True)
class Fixed:
    """``fixed:N``: N generated examples, epoch after epoch."""

    examples: int


@dataclass(frozen=True)
class Fresh:
    """``fresh``: new generated examples at every step."""


@dataclass(frozen=True)
class File:
    """``file:PATH``: the examples of a file, epoch after epoch."""

    path: Path


Source = Fixed | Fresh | File


def parse_data(text: str) -> Source:
    """Reads ``fixed:N`` (or N alone), ``fresh`` or ``file:PATH``; anything else raises ``RequestError``."""
    kind, colon, value = text.partition(":")
    if text == "fresh":
        return Fresh()
    if kind == "file" and value:
        return File(Path(value))
    count = value if kind == "fixed" and colon else text
    if count.isascii() and count.isdecimal() and len(count) < 16 and int(count) > 0:
        return Fixed(int(count))
    raise RequestError(
        f"data {text!r} is none of fixed:N (N examples, at least 1), fresh (new ones at every step) and file:PATH"
    )
