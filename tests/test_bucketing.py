"""Batches of rows that differ in length: alike within a batch, every row once an epoch, the same at every asking."""

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.fingerprints import one_in_eight
from foresee.tasks.path_star import PathStar
from foresee.training import data
from foresee.training.data import WINDOW, FixedData, FreshData, draw, group_lengths, sort_by_length

MIXED = PathStar(degree=2, length=6, nodes=30, sizes="mixed", goals="one")
PAIRED = PathStar(degree=2, length=4, nodes=30, sizes="mixed", generalised="path", goals="all")
TEXT = "mixed"


def numbered(rows: int, group: int, seed: int) -> Batch:
    """Rows that say which they are, of lengths that groups have in common in their prompts alone."""
    rng = seeds.stream("test bucketing", rows, group, seed)
    prompt = torch.from_numpy(numpy.repeat(rng.integers(1, 5, rows // group), group))
    answer = torch.from_numpy(rng.integers(1, 9, rows))
    tokens = torch.arange(rows)[:, None].repeat(1, 14)
    return Batch.of(tokens, prompt, answer, {"row": torch.arange(rows)})


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 12), st.integers(0, 3))
def test_every_ragged_row_comes_once_an_epoch_in_its_group(groups: int, group: int, a_batch: int, seed: int) -> None:
    rows, size = groups * group, a_batch * group
    fixed = FixedData(numbered(rows, group, seed), "numbered", seed, group)
    steps = 3 * rows // size + 1
    batches = [fixed.batch_at(step, size) for step in range(steps)]
    assert all(len(batch) == size for batch in batches)
    seen = torch.cat([batch.facts["row"] for batch in batches])
    for epoch in range(3):
        assert sorted(seen[epoch * rows : (epoch + 1) * rows].tolist()) == list(range(rows))
    together = seen.view(-1, group)
    assert torch.equal(together, together[:, :1] // group * group + torch.arange(group))
    other = FixedData(numbered(rows, group, seed), "numbered", seed, group)
    for step in (steps - 1, 0, steps // 2, 0):
        assert torch.equal(other.batch_at(step, size).tokens, batches[step].tokens)


def test_a_batch_is_as_wide_as_its_longest_row() -> None:
    fixed = FixedData(draw(MIXED, TEXT, "train", 3000, 0), TEXT, 0)
    batches = [fixed.batch_at(step, 30) for step in range(100)]
    assert all(batch.tokens.shape[1] == batch.layout.last for batch in batches)
    read = sum(batch.tokens.numel() for batch in batches)
    held = sum(int((batch.prompt_len + batch.answer_len).sum()) for batch in batches)
    assert held / read > 0.95
    # Neither long batches first nor short ones: a window's batches come in random order.
    widths = [batch.layout.last for batch in batches[:WINDOW]]
    assert widths not in (sorted(widths), sorted(widths, reverse=True))
    # And not all rows of one length follow each other: the epoch is sorted a window at a time.
    assert len({batch.layout.last for batch in batches[WINDOW : 2 * WINDOW]}) == 5


def test_a_window_is_sorted_and_cut_and_what_shares_a_batch_with_another_epoch_keeps_its_place() -> None:
    groups, lengths = numpy.arange(11)[::-1].copy(), numpy.repeat(numpy.arange(11)[:, None], 2, 1)
    ordered = sort_by_length(groups, lengths, 3, 2, seeds.stream("test"))
    assert ordered[:2].tolist() == [10, 9]
    assert sorted(map(tuple, ordered[2:].reshape(-1, 3).tolist())) == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert groups.tolist() == list(range(11))[::-1]
    assert sort_by_length(groups, lengths, 20, 11, seeds.stream("test")).tolist() == groups.tolist()


def test_groups_are_sorted_by_their_longest_row() -> None:
    batch = Batch.of(torch.zeros(4, 9, dtype=torch.int64), torch.tensor([2, 2, 3, 3]), torch.tensor([1, 6, 2, 3]))
    assert group_lengths(batch, 2).tolist() == [[8, 2], [6, 3]]


def test_orders_depend_on_epoch_and_seed() -> None:
    batch = draw(MIXED, TEXT, "train", 60, 0)
    orders = [FixedData(batch, TEXT, seed).batch_at(epoch, 60).tokens.tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({str(order) for order in orders}) == 4


def test_rows_of_one_length_keep_their_order_whatever_the_size_of_batches() -> None:
    """As in all runs before rows could differ: a permutation an epoch, from the stream of that name."""
    batch = Batch.of(torch.arange(12)[:, None].repeat(1, 3), 1, 2)
    order = seeds.stream("order", "same", 5, 1).permutation(12).tolist()
    for size in (4, 6):
        fixed = FixedData(batch, "same", 5)
        steps = range(12 // size, 24 // size)
        assert torch.cat([fixed.batch_at(step, size).tokens[:, 0] for step in steps]).tolist() == order


@pytest.mark.parametrize(("task", "size"), [(MIXED, 12), (PAIRED, 12)])
def test_fresh_ragged_batches_depend_on_step_and_size_alone(task: PathStar, size: int) -> None:
    fresh, other = FreshData(task, TEXT, 3), FreshData(task, TEXT, 3)
    steps = [0, WINDOW - 1, WINDOW, 5]
    batches = [fresh.batch_at(step, size) for step in steps]
    for step, batch in reversed(list(zip(steps, batches, strict=True))):
        again = other.batch_at(step, size)
        assert torch.equal(batch.tokens, again.tokens)
        assert len(batch) == size
        assert batch.tokens.shape[1] == batch.layout.last
        assert not one_in_eight(task.identity(batch)).any()
        data.require_groups(task, batch, "fresh")
    assert len({str(batch.tokens.tolist()) for batch in batches}) == len(steps)


def test_fresh_ragged_batches_never_repeat_and_hold_little_padding() -> None:
    fresh = FreshData(MIXED, TEXT, 0)
    batches = [fresh.batch_at(step, 16) for step in range(2 * WINDOW)]
    # Long graphs alone: there are too few short ones for none to come twice.
    long = [batch.rows(batch.answer_len >= 5) for batch in batches]
    identities = numpy.concatenate([MIXED.identity(batch) for batch in long if len(batch)])
    assert len(set(identities.tolist())) == len(identities) > 200
    read = sum(batch.tokens.numel() for batch in batches)
    assert sum(int((batch.prompt_len + batch.answer_len).sum()) for batch in batches) / read > 0.93
