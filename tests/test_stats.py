"""Intervals against closed forms and published values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresee.metrics.stats import rate, share_solved, wilson

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3: score interval without correction.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_agrees_with_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 3, 20, 20_000])
def test_ends_have_their_closed_form(n: int) -> None:
    none, every = wilson(0, n), wilson(n, n)
    assert none[0] == 0.0
    assert none[1] == pytest.approx(Z**2 / (n + Z**2), rel=1e-12)
    assert every[1] == 1.0
    assert every[0] == pytest.approx(n / (n + Z**2), rel=1e-12)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_ends_are_where_the_score_test_just_rejects(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert abs(successes / n - end) / math.sqrt(end * (1.0 - end) / n) == pytest.approx(Z, rel=1e-6)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_failures_mirror_successes(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson(successes, n)
    assert wilson(n - successes, n) == pytest.approx((1.0 - high, 1.0 - low), abs=1e-12)


def test_more_confidence_is_wider() -> None:
    low, high = wilson(30, 100)
    wider_low, wider_high = wilson(30, 100, confidence=0.99)
    assert wider_low < low < high < wider_high


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes in"):
        wilson(successes, n)
    with pytest.raises(ValueError, match="successes in"):
        rate(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_impossible_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence)


def test_a_rate_is_a_row() -> None:
    row = rate(9940, 20_000)
    assert row == {"value": 0.497, "low": wilson(9940, 20_000)[0], "high": wilson(9940, 20_000)[1], "n": 20_000}
    assert row["low"] == pytest.approx(0.4901, abs=5e-5)


def test_share_of_seeds_that_solved() -> None:
    assert share_solved([True, False, True, True]) == rate(3, 4)
    with pytest.raises(ValueError, match="0 trials"):
        share_solved([])
