"""Rows of like length side by side, so that a batch of rows that differ in length holds little padding.

The rows of an epoch are drawn in random order as ever. A window of ``WINDOW`` batches' worth of them is sorted by
length and cut into batches, and the window's batches are put in random order: lengths are alike within a batch, and
what a step sees stays random over a window. Everything is a pure function of the order and the generator.
"""

from __future__ import annotations

from typing import Any

import numpy
from numpy.typing import NDArray

from foresee.core.batch import Batch

WINDOW = 32
"""Batches that are sorted together."""

Rows = NDArray[numpy.int64]


def lengths_of(batch: Batch, group: int) -> Rows:
    """[groups, 2] by which groups of consecutive rows are sorted: their longest row, then their longest prompt."""
    prompt, answer = batch.prompt_len.cpu().numpy(), batch.answer_len.cpu().numpy()
    found: Rows = numpy.stack((prompt + answer, prompt), 1).reshape(-1, group, 2).max(1)
    return found


def bucketed(groups: Rows, lengths: Rows, a_batch: int, first: int, rng: numpy.random.Generator) -> Rows:
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


def rows_of(groups: NDArray[Any], group: int) -> Rows:
    """[n] numbers of groups -> [n * group] numbers of rows."""
    rows: Rows = (groups[:, None] * group + numpy.arange(group)).reshape(-1)
    return rows
