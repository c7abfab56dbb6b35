"""Where training and test examples come from.

Every problem belongs to one split for good: a hash of its identity puts one in eight into the test split and the others
into the training split, unless the task itself says which are held out. Sampling a split draws examples and keeps those
whose problem belongs to it, so that training and test examples share no problem, whatever their seeds, and none needs
to be looked up.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

import numpy
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from foresee.core import seeds
from foresee.core.batch import Batch, are_uniform
from foresee.core.errors import RequestError
from foresee.tasks.base import Task
from foresee.tasks.data import Data

Split = Literal["train", "test"]

BLOCK = 8192
"""Rows drawn at a time by ``draw``."""

PATIENCE = 32
"""Blocks without one example of the split, from the first on, after which a split is called empty."""

PROBE = 256
"""Groups of rows that are looked at to see whether a task's rows differ in length."""

WINDOW = 32
"""Batches whose rows are sorted by length together."""

Numbers = NDArray[numpy.int64]


def draw(task: Task, task_text: str, split: Split, n: int, seed: int) -> Batch:
    """The first ``n`` examples of a split under a seed; ``task_text`` is the canonical spec of ``task``.

    The examples for a smaller ``n`` are the first of those for a larger one. A task with fewer problems than ``n``
    repeats them, but for one that owns its examples: it gives each of its rows once at most. Raises ``RequestError``
    where ``n`` is below 1 or the split holds no problem at all.
    """
    if n < 1:
        raise RequestError(f"{n} {split} examples were asked for; ask for at least 1")
    if isinstance(task, Data):
        return task.rows(split).batch(_chosen(task, task_text, split, n, seed))
    rows = max(1, BLOCK // task.group) * task.group
    return _keep(task, task_text, split, n, rows, lambda block: seeds.stream("data", task_text, split, seed, block))


def _chosen(task: Data, task_text: str, split: Split, n: int, seed: int) -> NDArray[numpy.int64]:
    """Numbers of ``n`` rows of a split at random, or of all where there are fewer."""
    rows = len(task.rows(split))
    if not rows and split == "train" and task.test_file is not None:
        raise RequestError(f"{task.path}: every prompt is in {task.test_file} too, so no row is left to train on")
    if not rows:
        why = "one prompt in eight is for testing, so give more rows, or name a test file"
        raise RequestError(f"{task.path}: no row belongs to the {split} split; {why}")
    return seeds.stream("data", task_text, split, seed).permutation(rows)[:n]


def _keep(task: Task, text: str, split: Split, n: int, rows: int, stream: Callable[[int], Generator]) -> Batch:
    """The first ``n`` examples of a split out of blocks of ``rows`` rows, whole groups each."""
    pieces: list[Batch] = []
    have = block = 0
    while have < n:
        if not pieces and block == PATIENCE:
            raise RequestError(
                f"{text}: none of {PATIENCE * rows} examples drawn belongs to the {split} split; "
                "the task has too few problems to be split into training and test problems"
            )
        drawn = task.sample(rows, stream(block))
        inside = numpy.flatnonzero(task.held_out(drawn) == (split == "test"))[: n - have]
        if len(inside):
            pieces.append(drawn.rows(torch.from_numpy(inside)))
        have += len(inside)
        block += 1
    return concatenate(pieces)


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Batches one below the other; narrower ones are padded with token 0."""
    if len(batches) == 1:
        return batches[0]
    width = max(batch.tokens.shape[1] for batch in batches)
    tokens = torch.cat([torch.nn.functional.pad(batch.tokens, (0, width - batch.tokens.shape[1])) for batch in batches])
    prompt_len = torch.cat([batch.prompt_len for batch in batches])
    answer_len = torch.cat([batch.answer_len for batch in batches])
    facts = {name: torch.cat([batch.facts[name] for batch in batches]) for name in batches[0].facts}
    if are_uniform(batches):
        # What holds for every piece holds for the whole, without a look at the lengths (which may be on a device).
        return Batch(tokens, prompt_len, answer_len, batches[0].layout, facts)
    return Batch.of(tokens, prompt_len, answer_len, facts)


# Rows of like length side by side: a window of batches' worth of rows is sorted by length and cut into batches, and the
# batches are put in random order. So lengths are alike within a batch, and what a step sees stays random over a window.


def group_lengths(batch: Batch, group: int) -> Numbers:
    """[groups, 2] by which groups of consecutive rows are sorted: their longest row, then their longest prompt."""
    prompt, answer = batch.prompt_len.cpu().numpy(), batch.answer_len.cpu().numpy()
    found: Numbers = numpy.stack((prompt + answer, prompt), 1).reshape(-1, group, 2).max(1)
    return found


def sort_by_length(groups: Numbers, lengths: Numbers, a_batch: int, first: int, rng: Generator) -> Numbers:
    """The order ``groups`` [n] (numbers of groups) put into batches of ``a_batch`` groups of like ``lengths``.

    The first ``first`` groups and those after the last whole batch keep their places: they share a batch with groups
    of the epochs before and after.
    """
    ordered = groups.copy()
    last = first + (len(groups) - first) // a_batch * a_batch
    for start in range(first, last, WINDOW * a_batch):
        window = groups[start : min(start + WINDOW * a_batch, last)]
        rows, prompts = lengths[window].T
        batches = window[numpy.lexsort((prompts, rows))].reshape(-1, a_batch)
        ordered[start : start + len(window)] = rng.permutation(batches).reshape(-1)
    return ordered


def group_rows(groups: NDArray[Any], group: int) -> Tensor:
    """[n] numbers of groups -> [n * group] numbers of rows."""
    return torch.from_numpy((groups[:, None] * group + numpy.arange(group)).reshape(-1))


class TrainingData(Protocol):
    """Training batches by step: the same step and size always give the same batch."""

    def batch_at(self, step: int, size: int) -> Batch:
        """The batch of one step (from 0) of a run whose batches all have ``size`` rows."""
        ...


class EpochData(ABC):
    """A fixed set of examples, each seen once an epoch, in a new order every epoch."""

    def __init__(
        self, lengths: NDArray[numpy.int64] | int, task_text: str, seed: int, group: int, device: torch.device | str
    ) -> None:
        """``lengths`` of groups of rows as ``group_lengths`` gives them, or how many groups there are where rows do not
        differ in length. ``device`` is where ``_take`` wants the numbers of rows."""
        self._groups = lengths if isinstance(lengths, int) else len(lengths)
        self._lengths = None if isinstance(lengths, int) else lengths
        self.group, self.text, self.seed, self._device = group, task_text, seed, device
        # Two orders are kept, since a batch may hold the end of one epoch and the start of the next.
        self._order = lru_cache(maxsize=2)(self._make_order)

    def __len__(self) -> int:
        return self._groups * self.group

    @abstractmethod
    def _take(self, rows: Tensor) -> Batch:
        """The rows of these numbers [n], without columns that are padding in all of them."""

    def batch_at(self, step: int, size: int) -> Batch:
        """Rows ``step * size`` to ``(step + 1) * size`` of the endless sequence of epochs. Where rows differ in length,
        those of a batch are alike. Raises ``RequestError`` where ``size`` is not a multiple of the
        group."""
        _require_whole(size, self.group)
        at, end = step * size, (step + 1) * size
        pieces: list[Tensor] = []
        while at < end:
            epoch, place = divmod(at, len(self))
            pieces.append(self._order(epoch, size if self._lengths is not None else 0)[place : place + end - at])
            at += len(pieces[-1])
        return self._take(pieces[0] if len(pieces) == 1 else torch.cat(pieces))

    def _make_order(self, epoch: int, size: int) -> Tensor:
        """[len(self)] the order of rows in an epoch, on the device; only where rows differ in length does it depend on
        the ``size`` of batches."""
        groups = seeds.stream("order", self.text, self.seed, epoch).permutation(self._groups)
        if self._lengths is not None:
            a_batch = size // self.group
            first = min(-epoch * self._groups % a_batch, self._groups)  # these complete a batch of the epoch before
            rng = seeds.stream("buckets", self.text, self.seed, epoch)
            groups = sort_by_length(groups, self._lengths, a_batch, first, rng)
        return group_rows(groups, self.group).to(self._device)


class FixedData(EpochData):
    """Examples that are held in memory."""

    def __init__(self, batch: Batch, task_text: str, seed: int, group: int = 1) -> None:
        """``group`` consecutive rows of ``batch`` stay side by side (``Task.group``). Batches are on the device of
        ``batch``. Raises ``RequestError`` where ``batch`` does not hold whole groups."""
        if not len(batch) or len(batch) % group:
            raise RequestError(
                f"{len(batch)} training examples are no whole number of groups of {group}, which this task keeps "
                f"together; use a multiple of {group}"
            )
        self.batch = batch
        lengths = len(batch) // group if batch.layout.uniform else group_lengths(batch, group)
        super().__init__(lengths, task_text, seed, group, batch.tokens.device)

    def _take(self, rows: Tensor) -> Batch:
        return self.batch.rows(rows).trimmed()


class StoredData(EpochData):
    """Training rows of a task that owns its examples, read from disk as they are needed."""

    def __init__(self, task: Data, task_text: str, seed: int, n: int) -> None:
        """``n`` rows at random, or all where there are fewer. Raises ``RequestError`` where there are none."""
        self._rows = task.rows("train")
        self._index = _chosen(task, task_text, "train", n, seed)
        prompt, answer = self._rows.lengths(self._index).T
        lengths = numpy.stack((prompt + answer, prompt), 1)
        super().__init__(len(lengths) if (lengths == lengths[0]).all() else lengths, task_text, seed, 1, "cpu")

    def _take(self, rows: Tensor) -> Batch:
        return self._rows.batch(self._index[rows.numpy()])


class FreshData:
    """New examples of the training split at every step."""

    def __init__(self, task: Task, task_text: str, seed: int) -> None:
        """``task_text`` is the canonical spec of ``task``."""
        self.task, self.text, self.seed = task, task_text, seed
        self._window = lru_cache(maxsize=1)(self._draw_window)

    def batch_at(self, step: int, size: int) -> Batch:
        """[size] examples from a stream of this step's own, on the CPU. Where rows differ in length, the stream is that
        of a window of steps, and rows of a batch are alike in length. Raises ``RequestError`` where
        ``size`` is not a multiple of the task's group or the training split is empty."""
        _require_whole(size, self.task.group)
        if not self._lengths_differ:
            return self._draw(size, "fresh", self.seed, step)
        window, place = divmod(step, WINDOW)
        batch, order = self._window(window, size)
        return batch.rows(order[place * size : (place + 1) * size]).trimmed()

    @cached_property
    def _lengths_differ(self) -> bool:
        """Whether rows of the task do, by a look at a few: were it missed, batches would hold more padding."""
        return not self.task.sample(PROBE * self.task.group, seeds.stream("lengths", self.text)).layout.uniform

    def _draw_window(self, window: int, size: int) -> tuple[Batch, Tensor]:
        """The examples of ``WINDOW`` steps, and the order in which they come [WINDOW * size]."""
        batch, group = self._draw(WINDOW * size, "fresh window", self.seed, window), self.task.group
        groups, rng = numpy.arange(len(batch) // group), seeds.stream("fresh buckets", self.text, self.seed, window)
        ordered = sort_by_length(groups, group_lengths(batch, group), size // group, 0, rng)
        return batch, group_rows(ordered, group)

    def _draw(self, size: int, *key: seeds.Key) -> Batch:
        group = self.task.group
        # Seven in eight groups are kept; five standard deviations more are drawn, so that one draw nearly always does.
        groups = size // group
        drawn = math.ceil(groups * 8 / 7 + 2 * math.sqrt(groups)) + 4
        rows, text = drawn * group, self.text
        return _keep(self.task, text, "train", size, rows, lambda block: seeds.stream("data", text, *key, block))


def _require_whole(size: int, group: int) -> None:
    if size < 1 or size % group:
        raise RequestError(
            f"batch={size}, but this task keeps groups of {group} rows together, so batch must be a multiple of {group}"
            if group > 1
            else f"batch={size}, but a batch has at least 1 row"
        )


def require_groups(task: Task, batch: Batch, where: str) -> None:
    """Raises ``RequestError``, which starts with ``where``, unless every ``task.group`` consecutive rows of a batch
    that came from outside hold one problem, and begin with the same ``task.shared_prefix`` tokens: training reads those
    of the first row for all of them."""
    whole, size = len(batch) // task.group * task.group, task.group

    def first_broken(rows: NDArray[Any]) -> int | None:
        """[whole, ...] -> the first row that is unlike the first one of its group."""
        groups = rows.reshape(len(rows) // size, size, -1)
        unlike = numpy.flatnonzero((groups != groups[:, :1]).any(axis=2))
        return int(unlike[0]) if len(unlike) else None

    broken = first_broken(task.identity(batch)[:whole])
    if broken is not None or whole < len(batch):
        row = whole if broken is None else broken // size * size
        raise RequestError(
            f"{where}: the {size} examples from number {row + 1} on must hold the same problem, which this task "
            "keeps together"
        )
    broken = first_broken(batch.tokens[:, : task.shared_prefix].numpy())
    if broken is not None:
        raise RequestError(
            f"{where}: example number {broken + 1} must begin with the same {task.shared_prefix} tokens as number "
            f"{broken // size * size + 1}, edges in the same order: this task reads them once for {size} examples"
        )
