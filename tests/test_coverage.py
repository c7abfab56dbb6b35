"""Intervals cover what they promise and tests hold their level: by simulation, with repeated and with grouped rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import pytest
import torch

from foresee.metrics.control import find_fall
from foresee.metrics.intervals import Row, mean, share, wilson
from foresee.metrics.significance import ALPHA, at_least, differ, equivalence, sign_flip
from foresee.metrics.survival import Times, log_rank
from foresee.metrics.verdict import chance_margin

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


# Sizes of tests: how often one rejects what is true, at 5 %. None may in more than 7 % of simulations. At least 3 % is
# asked of those that can reach their level: of one rate that is not near 0 or 1 by a thousand problems, of permutations
# of eight pairs or of three strata of three runs each. The others are conservative, and beside each stands why.


def worth(row: Row) -> tuple[float, float]:
    """Right ones, out of how many independent trials."""
    n = row.get("effective", float(row["n"]))
    return row["value"] * n, n


def size_of(rejects: Callable[[], bool], draws: int) -> float:
    """The share of ``draws`` in which a test rejects."""
    return sum(rejects() for _ in range(draws)) / draws


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "tied"), [(1, 0.0), *((size, tied) for size in (2, 5, 20) for tied in (0.0, 0.5, 1.0))]
)
@pytest.mark.parametrize("centre", [0.016, 0.5, 0.9])
def test_claims_on_rates_hold_their_level(size: int, tied: float, centre: float) -> None:
    """Each at the edge of what it tests: a rate at the floor, and as far from chance as is still called chance."""
    stream = numpy.random.Generator(numpy.random.Philox([1, size, round(1000 * centre), round(10 * tied)]))
    problems, margin = torch.arange(PROBLEMS).repeat_interleave(size), chance_margin(centre)
    above = near = apart = 0
    for _ in range(DRAWS):
        one, other = (share(draw(size, centre + margin, tied, stream).flatten(), problems) for _ in range(2))
        above += at_least(*worth(one), centre + margin).p <= ALPHA
        near += equivalence(*worth(one), centre, margin).p <= ALPHA
        n = min(worth(one)[1], worth(other)[1])
        apart += differ([(one["value"] * n, other["value"] * n, n)]).p <= ALPHA
    assert (0.03 if centre > 0.1 else 0.02) <= above / DRAWS <= 0.07  # near 0 the binomial has few steps
    assert near / DRAWS <= 0.07  # two one-sided tests, of which both must reject
    assert apart / DRAWS <= 0.01  # made for the worst dependence; here the models are independent


@pytest.mark.slow
@pytest.mark.parametrize(("pairs", "least"), [(5, 0.0), (6, 0.01), (8, 0.03)])
@pytest.mark.parametrize("bimodal", [False, True])
def test_sign_flips_hold_their_level(pairs: int, least: float, bimodal: bool) -> None:
    """Five pairs cannot reject; six reach 1 in 32. Bimodal: half of the runs solve, whichever of the pair."""
    stream = numpy.random.Generator(numpy.random.Philox([2, pairs, bimodal]))

    def rejects() -> bool:
        noise = stream.normal(0, 0.01, pairs)
        solved = stream.random((2, pairs)) < 0.5 if bimodal else numpy.zeros((2, pairs))
        return sign_flip((solved[0] * 0.5 - solved[1] * 0.5 + noise).tolist()).p <= ALPHA

    assert least <= size_of(rejects, 500) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strata", "runs", "least"),
    [(1, 3, 0.0), (1, 5, 0.02), (3, 2, 0.01), (3, 3, 0.03), (2, 12, 0.03), (4, 10, 0.03)],
)
def test_log_rank_tests_hold_their_level(strata: int, runs: int, least: float) -> None:
    """Times on the grid of evaluations, a fifth of the runs unsolved at the end; the last two are by chi-squared."""
    stream = numpy.random.Generator(numpy.random.Philox([3, strata, runs]))

    def group(scale: float) -> Times:
        times = numpy.ceil(stream.exponential(scale, runs) / 25) * 25
        return Times(tuple(numpy.minimum(times, 2000).tolist()), tuple((times <= 2000).tolist()))

    def rejects() -> bool:  # strata differ in how long they take
        return log_rank([(group(1200.0 / (1 + at)), group(1200.0 / (1 + at))) for at in range(strata)]).p <= ALPHA

    assert least <= size_of(rejects, 400) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("reports", [8, 10, 20, 40, 200])
@pytest.mark.parametrize("noise", [0.03, 0.2])
def test_a_flat_loss_is_rarely_called_falling(reports: int, noise: float) -> None:
    stream = numpy.random.Generator(numpy.random.Philox([4, reports, round(100 * noise)]))

    def rejects() -> bool:
        return find_fall([(step + 1, 1 + noise * x) for step, x in enumerate(stream.normal(size=reports))]) is not None

    assert size_of(rejects, 2000) <= 0.07
