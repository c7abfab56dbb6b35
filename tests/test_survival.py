"""Steps to solve: censored runs count, curves agree with a published example and with scipy, tests with enumeration."""

from __future__ import annotations

import math
import warnings
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from foresee.metrics.stats import Times, kaplan_meier, log_rank, median, restricted_mean

# Freireich et al. 1963, remission of leukaemia in weeks, as printed in many textbooks (Cox & Oakes 1984, section 1.1).
TREATED = Times(
    (6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35),
    (
        True,
        True,
        True,
        False,
        True,
        False,
        True,
        False,
        False,
        True,
        True,
        False,
        False,
        False,
        True,
        True,
        *[False] * 5,
    ),
)
PLACEBO = Times((1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23), (True,) * 21)

runs = st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=12)


def times(pairs: list[tuple[int, bool]]) -> Times:
    return Times(tuple(time for time, _ in pairs), tuple(came for _, came in pairs))


def censored(data: Times) -> scipy_stats.CensoredData:
    pairs = list(zip(data.times, data.came, strict=True))
    return scipy_stats.CensoredData(
        uncensored=[time for time, came in pairs if came], right=[time for time, came in pairs if not came]
    )


def test_the_published_curve() -> None:
    curve = kaplan_meier(TREATED)
    assert curve.at == (6, 7, 10, 13, 16, 22, 23)
    assert curve.share == pytest.approx((0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448), abs=5e-4)
    assert curve.at_risk == (21, 17, 15, 12, 11, 7, 6)
    assert (curve.end, curve.n) == (35, 21)
    assert median(curve) == 23
    assert median(kaplan_meier(PLACEBO)) == 8


def test_the_published_log_rank_test() -> None:
    # Chi-squared 16.79 with one degree of freedom; 9 events where 19.25 are expected.
    found = log_rank([(TREATED, PLACEBO)])
    assert found.statistic == pytest.approx(9 - 19.25, abs=5e-3)
    assert found.p == pytest.approx(scipy_stats.chi2.sf(16.793, 1), rel=1e-3)
    assert (found.name, found.n) == ("log-rank test", 42)


@given(runs)
def test_curves_and_intervals_are_those_of_scipy(pairs: list[tuple[int, bool]]) -> None:
    curve = kaplan_meier(times(pairs))
    other = scipy_stats.ecdf(censored(times(pairs))).sf
    for at, share, low, high in zip(curve.at, curve.share, curve.low, curve.high, strict=True):
        assert share == pytest.approx(float(other.evaluate(at)), abs=1e-12)
        assert low <= share <= high
        if 0 < share < 1:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # where the curve reaches 0 or 1, scipy has no interval there and says so
                interval = other.confidence_interval(method="log-log")
            assert low == pytest.approx(float(interval.low.evaluate(at)), abs=1e-9)
            assert high == pytest.approx(float(interval.high.evaluate(at)), abs=1e-9)


def test_nothing_that_did_not_solve_is_dropped() -> None:
    curve = kaplan_meier(Times.of([400, None, None], [500, 2000, 2000]))
    assert curve.at == (400,)
    assert curve.share == pytest.approx((2 / 3,))
    assert (curve.n, curve.end) == (3, 2000)
    assert median(curve) is None
    assert restricted_mean(curve) == pytest.approx(400 + 2 / 3 * 1600)
    none = kaplan_meier(Times.of([None, None], [2000, 1500]))
    assert (none.at, restricted_mean(none), median(none)) == ((), 2000, None)


def test_the_restricted_mean_of_complete_times_is_their_mean() -> None:
    curve = kaplan_meier(PLACEBO)
    assert restricted_mean(curve) == pytest.approx(sum(PLACEBO.times) / 21)
    assert restricted_mean(curve, 100) == pytest.approx(sum(PLACEBO.times) / 21)
    assert restricted_mean(curve, 4) == pytest.approx(sum(min(time, 4) for time in PLACEBO.times) / 21)
    with pytest.raises(ValueError, match="horizon 36 lies beyond 35"):
        restricted_mean(kaplan_meier(TREATED), 36)


many = st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=11, max_size=14).filter(
    lambda pairs: any(came for _, came in pairs)
)


@settings(max_examples=25)
@given(many, many)
def test_large_groups_are_compared_as_scipy_does(first: list[tuple[int, bool]], second: list[tuple[int, bool]]) -> None:
    found = log_rank([(times(first), times(second))])
    other = scipy_stats.logrank(censored(times(first)), censored(times(second)))
    assert found.name == "log-rank test"
    assert found.p == pytest.approx(float(other.pvalue), abs=1e-9)
    assert found.statistic * float(other.statistic) >= -1e-9


def _brute_force(first: Times, second: Times) -> float:
    """The share of arrangements whose statistic is as extreme, counted run by run."""
    both = [*zip(first.times, first.came, strict=True), *zip(second.times, second.came, strict=True)]

    def excess(chosen: tuple[int, ...]) -> float:
        total = 0.0
        for time in {each for each, came in both if came}:
            risk = [index for index, (each, _) in enumerate(both) if each >= time]
            events = [index for index, (each, came) in enumerate(both) if each == time and came]
            share = sum(index in chosen for index in risk) / len(risk)
            total += sum(index in chosen for index in events) - len(events) * share
        return total

    size = len(first.times)
    observed = abs(excess(tuple(range(size))))
    every = [abs(excess(chosen)) for chosen in combinations(range(len(both)), size)]
    return sum(each >= observed - 1e-6 for each in every) / len(every)


few = st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=4)


@given(few, few)
def test_small_groups_are_compared_exactly(first: list[tuple[int, bool]], second: list[tuple[int, bool]]) -> None:
    found = log_rank([(times(first), times(second))])
    assert found.name == "log-rank test, exact"
    assert found.p == pytest.approx(_brute_force(times(first), times(second)))
    assert found.least is not None
    assert found.least <= found.p + 1e-12


def test_three_seeds_show_little_and_strata_add_up() -> None:
    quick = Times.of([300, 400, 500], [300, 400, 500])
    never = Times.of([None, None, None], [2000, 2000, 2000])
    one = log_rank([(quick, never)])
    assert one.p == one.least == pytest.approx(2 / 20)
    assert one.statistic == pytest.approx(3 - 3 / 6 - 2 / 5 - 1 / 4)
    three = log_rank([(quick, never)] * 3)
    assert three.p == pytest.approx(2 / 20**3)
    assert (three.name, three.n) == ("log-rank test, exact, stratified", 18)
    assert log_rank([(never, quick)]).statistic == pytest.approx(-one.statistic)


@pytest.mark.parametrize(
    ("at", "came"), [((), ()), ((1.0,), (True, False)), ((-1.0,), (True,)), ((math.inf,), (False,))]
)
def test_impossible_times_are_refused(at: tuple[float, ...], came: tuple[bool, ...]) -> None:
    with pytest.raises(ValueError, match="times"):
        Times(at, came)
    with pytest.raises(ValueError, match="at least one pair"):
        log_rank([])
