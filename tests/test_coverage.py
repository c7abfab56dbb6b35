"""Intervals hold what they promise: coverage by simulation, with repeated and with grouped rows."""

from __future__ import annotations

import numpy
import pytest
import torch
from scipy import stats

from foresee.metrics.intervals import mean, share, wilson

PROBLEMS, DRAWS = 1000, 1500


def draw(size: int, chance: float, tied: float, stream: numpy.random.Generator) -> torch.Tensor:
    """[PROBLEMS, size] bool: a share ``tied`` of the groups is all right or all wrong, the others row by row."""
    together = stream.random((PROBLEMS, 1)) < chance
    apart = stream.random((PROBLEMS, size)) < chance
    return torch.from_numpy(numpy.where(stream.random((PROBLEMS, 1)) < tied, together, apart))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 5, 20])
@pytest.mark.parametrize("chance", [0.02, 0.2, 0.5, 0.98])
@pytest.mark.parametrize("tied", [0.0, 0.5, 1.0])
def test_a_95_percent_interval_covers_93_to_97(size: int, chance: float, tied: float) -> None:
    stream = numpy.random.Generator(numpy.random.Philox([size, round(100 * chance), round(10 * tied)]))
    problems = torch.arange(PROBLEMS).repeat_interleave(size)
    held = 0
    for _ in range(DRAWS):
        row = share(draw(size, chance, tied, stream).flatten(), problems)
        held += row["low"] <= chance <= row["high"]
    assert 0.93 <= held / DRAWS <= 0.97


def test_repeats_of_a_problem_add_nothing() -> None:
    """590 problems behind 20,000 rows: the interval is that of 590, not of 20,000."""
    stream = numpy.random.Generator(numpy.random.Philox(0))
    right = torch.from_numpy(stream.random(590) < 0.5)
    drawn = torch.from_numpy(stream.integers(590, size=20_000))
    row = share(right[drawn], drawn)
    low, high = wilson(row["value"], 590)
    assert (row["n"], row["problems"]) == (20_000, 590)
    assert row["high"] - row["low"] == pytest.approx(high - low, rel=0.05)


def test_groups_that_are_alike_count_once_and_unlike_ones_never_more_than_their_rows() -> None:
    problems = torch.arange(500).repeat_interleave(2)
    right = torch.arange(500) < 300
    alike, apart = right.repeat_interleave(2), torch.tensor([True, False]).repeat(500)
    assert share(alike, problems)["effective"] == pytest.approx(499, abs=1.5)
    assert share(apart, problems)["effective"] == 1000
    every = share(torch.ones(1000, dtype=torch.bool), problems)
    assert (every["value"], every["high"], every["effective"]) == (1.0, 1.0, 500)


@pytest.mark.parametrize(("right", "n"), [(3, 20), (0, 20), (20, 20), (5200, 10_000)])
def test_wilson_is_scipys_where_counts_are_whole(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_mean_has_the_interval_of_its_problems() -> None:
    stream = numpy.random.Generator(numpy.random.Philox(1))
    of_problem = torch.from_numpy(stream.normal(1.0, 2.0, 400))
    row = mean(of_problem.repeat_interleave(5), torch.arange(400).repeat_interleave(5))
    half = 1.96 * float(of_problem.std()) / 20
    assert (row["n"], row["problems"]) == (2000, 400)
    assert row["high"] - row["low"] == pytest.approx(2 * half, rel=1e-3)
    assert "low" not in mean(torch.tensor([1.0, 2.0]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="nothing"):
        mean(torch.empty(0), torch.empty(0, dtype=torch.int64))
