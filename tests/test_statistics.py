"""Intervals, exact tests, survival curves and corrections against published values, SciPy and enumeration."""

from __future__ import annotations

import math
from itertools import combinations, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from foresee.metrics.intervals import rate, wilson
from foresee.metrics.significance import Claim, Evidence, at_least, correct_claims, differ, equivalence, holm, sign_flip
from foresee.metrics.survival import Times, kaplan_meier, log_rank, median, restricted_mean

Z = 1.959963984540054


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@example((81, 263))  # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3: 0.2553, 0.3662
def test_ends_are_where_the_score_test_just_rejects(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson(successes / n, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    assert (low == 0.0, high == 1.0) == (successes == 0, successes == n)
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert abs(successes / n - end) / math.sqrt(end * (1.0 - end) / n) == pytest.approx(Z, rel=1e-6)
    assert case != (81, 263) or (low, high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_a_rate_is_a_row_and_impossible_counts_are_refused() -> None:
    row = rate(9940, 20_000)
    assert row == {"value": 0.497, "low": wilson(0.497, 20_000)[0], "high": wilson(0.497, 20_000)[1], "n": 20_000}
    for successes, n in [(0, 0), (-1, 5), (6, 5), (0, -1)]:
        with pytest.raises(ValueError, match="successes in"):
            rate(successes, n)


counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
shares = st.floats(0.01, 0.99)


@given(counts, shares)
def test_binomial_tests_are_those_of_scipy(case: tuple[int, int], chance: float) -> None:
    successes, n = case
    assert at_least(successes, n, chance).p == pytest.approx(
        scipy_stats.binomtest(successes, n, chance, alternative="greater").pvalue, rel=1e-8, abs=1e-12
    )
    for wrong, said in (((1, 2, 0.0), "lie between 0 and 1"), ((1, 2, 1.0), "lie between 0 and 1"),
                        ((3, 2, 0.5), "successes in")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            at_least(*wrong)


@given(counts, st.floats(0.1, 0.9))
def test_equivalence_is_the_larger_of_two_one_sided_tests(case: tuple[int, int], chance: float) -> None:
    successes, n = case
    above = scipy_stats.binomtest(successes, n, chance - 0.05, alternative="greater").pvalue
    below = scipy_stats.binomtest(successes, n, chance + 0.05, alternative="less").pvalue
    assert equivalence(successes, n, chance, 0.05).p == pytest.approx(max(above, below), rel=1e-8, abs=1e-12)
    # Where chance is within the margin of an end, there is one side only.
    assert equivalence(0, 1000, 0.05, 0.05).p < 1e-40
    assert equivalence(1000, 1000, 0.95, 0.06).p < 1e-40
    assert equivalence(100, 1000, 0.05, 0.05).p > 0.4


@given(st.lists(st.integers(-4, 4).map(lambda tenths: tenths / 10), min_size=1, max_size=9))
def test_sign_flips_against_going_through_all(differences: list[float]) -> None:
    found = sign_flip(differences)
    observed = abs(sum(differences))
    every = [abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
             for signs in product((1, -1), repeat=len(differences))]  # fmt: skip
    assert found.p == pytest.approx(sum(each >= observed - 1e-9 for each in every) / len(every))
    assert found.least is not None
    assert found.least <= found.p + 1e-12


def test_darwins_maize() -> None:
    # Fisher 1935, section 21: 15 pairs of plants, crossed minus self-fertilised in eighths of an inch. 863 of 32,768
    # assignments of signs reach the sum of 314, so 1,726 on both sides: 5.267 %.
    pairs = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    found = sign_flip(pairs)
    assert sum(pairs) == 314
    assert found.p == pytest.approx(1726 / 32768)
    assert found.statistic == pytest.approx(314 / 15)
    few = sign_flip([0.5, 0.49, 0.51])  # three pairs cannot show anything
    assert few.p == few.least == 0.25
    for wrong in ([], [0.1] * 23):
        with pytest.raises(ValueError, match="paired differences"):
            sign_flip(wrong)


def bounds(successes: int, n: int, error: float) -> tuple[float, float]:
    """Clopper-Pearson bounds, each one-sided at this error."""
    low = scipy_stats.beta.ppf(error, successes, n - successes + 1) if successes else 0.0
    high = scipy_stats.beta.ppf(1 - error, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


@given(st.integers(5, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_models_differ_where_their_exact_bounds_part(case: tuple[int, int, int]) -> None:
    first, second, n = case
    found = differ([case])
    for error in (0.05, 0.01, 0.001):
        (low_a, high_a), (low_b, high_b) = bounds(first, n, error), bounds(second, n, error)
        apart = max(low_a - high_b, low_b - high_a)
        if abs(apart) > 1e-6:
            # Two errors, one for each bound, and two directions.
            assert (found.p <= 4 * error) == (apart > 0)
    assert found.p == pytest.approx(differ([(second, first, n)]).p)


def test_models_must_differ_the_same_way_in_every_pair() -> None:
    one, other = (900, 500, 1000), (500, 900, 1000)
    assert differ([one]).p < 1e-40
    assert differ([one, one]).p == differ([one]).p
    assert differ([one, (510, 500, 1000)]).p > 0.9
    assert differ([one, other]).p == 1.0
    assert differ([(900, 500, 1000), (800, 500, 1000)]).statistic == pytest.approx(0.35)
    # Effective counts are no whole numbers: less than one answer apart.
    assert differ([(19.8, 20.0, 1000.0)]).p == differ([(381.5, 381.44, 400.0)]).p == 1.0
    with pytest.raises(ValueError, match="at least one pair"):
        differ([])


def test_the_error_of_comparing_models_holds_under_dependence() -> None:
    """Outcomes that exclude each other, the worst case for comparing counts as if they were independent: exactly one of
    two equally good models is right on every example."""
    n = 200
    right = scipy_stats.binom(n, 0.5)
    for alpha in (0.05, 0.2):
        error = sum(right.pmf(count) for count in range(n + 1) if differ([(count, n - count, n)]).p <= alpha)
        assert error <= alpha


@given(st.lists(st.floats(0, 1), max_size=8))
@example([0.01, 0.04, 0.03, 0.005])
def test_holm_refuses_what_its_steps_refuse(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.3):
        refused = set()
        for step, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
            if p_values[index] * (len(p_values) - step) > alpha:
                break
            refused.add(index)
        assert {index for index, p in enumerate(adjusted) if p <= alpha} == refused
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # his own example
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])


def test_a_claim_carries_its_test() -> None:
    first, second = at_least(100, 100, 0.9), sign_flip([0.5, 0.4, 0.6])
    claims = correct_claims([("it solved", first), ("they differ", second)])
    assert [claim.sentence for claim in claims] == ["it solved", "they differ"]
    assert claims[0] == Claim("it solved", first, 2 * first.p)
    assert [claim.shown for claim in claims] == [True, False]
    assert claims[1].json() == {
        "sentence": "they differ", "test": "exact sign-flip permutation test, two-sided", "statistic": 0.5, "p": 0.25,
        "n": 3, "unit": "pairs of runs", "least": 0.25, "corrected": 0.25, "shown": False,
    }  # fmt: skip
    assert Evidence("a test", 0.0, 1.0, 3, "runs").least is None


# Freireich et al. 1963, remission of leukaemia in weeks, as printed in many textbooks (Cox & Oakes 1984, section 1.1).
TREATED = Times(
    (6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35),
    (
        True, True, True, False, True, False, True, False, False, True, True, False, False, False, True, True,
        *[False] * 5,
    ),
)  # fmt: skip
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
    # Peto's leukaemia data at week 6: log(-log) interval of 0.857 with Greenwood's variance.
    assert (curve.low[0], curve.high[0]) == pytest.approx((0.6197, 0.9516), abs=5e-4)
    assert median(PLACEBO) == 8
    assert median(TREATED) is None  # the curve's own is 23, which rests on six; nine of 21 were seen to have it
    assert restricted_mean(kaplan_meier(PLACEBO)) == pytest.approx(sum(PLACEBO.times) / 21)  # complete times
    ended = kaplan_meier(Times.of([1, 2], [1, 2]))
    assert (ended.share[-1], ended.low[-1], ended.high[-1]) == (0.0, 0.0, ended.high[0])
    assert (kaplan_meier(Times.of([3], [3])).low, kaplan_meier(Times.of([3], [3])).high) == ((0.0,), (1.0,))


def test_the_published_log_rank_test() -> None:
    # Chi-squared 16.79 with one degree of freedom; 9 events where 19.25 are expected.
    found = log_rank([(TREATED, PLACEBO)])
    assert found.statistic == pytest.approx(9 - 19.25, abs=5e-3)
    assert found.p == pytest.approx(scipy_stats.chi2.sf(16.793, 1), rel=1e-3)
    assert (found.name, found.n) == ("log-rank test", 42)


@given(runs)
def test_curves_lie_within_their_intervals_and_fall(pairs: list[tuple[int, bool]]) -> None:
    curve = kaplan_meier(times(pairs))
    assert list(curve.share) == sorted(curve.share, reverse=True)
    assert all(low <= share <= high for low, share, high in zip(curve.low, curve.share, curve.high, strict=True))


def test_nothing_that_did_not_solve_is_dropped() -> None:
    times = Times.of([400, None, None], [500, 2000, 2000])
    curve = kaplan_meier(times)
    assert curve.at == (400,)
    assert curve.share == pytest.approx((2 / 3,))
    assert (curve.n, curve.end) == (3, 2000)
    assert median(times) is None
    assert median(Times.of([400, None], [500, 2000])) == 400
    assert restricted_mean(curve) == pytest.approx(400 + 2 / 3 * 1600)
    never = Times.of([None, None], [2000, 1500])
    none = kaplan_meier(never)
    assert (none.at, restricted_mean(none), median(never)) == ((), 2000, None)


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
    # Last of three on each of six graphs: rounded sums of sixths would leave out the very arrangement that was seen.
    last, others = Times.of([300], [300]), Times.of([100, 200], [100, 200])
    six = log_rank([(last, others)] * 6)
    assert (six.p, six.least) == (1 / 3**6, 1 / 3**6)


@pytest.mark.parametrize(
    ("at", "came"), [((), ()), ((1.0,), (True, False)), ((-1.0,), (True,)), ((math.inf,), (False,))]
)
def test_impossible_times_are_refused(at: tuple[float, ...], came: tuple[bool, ...]) -> None:
    with pytest.raises(ValueError, match="times"):
        Times(at, came)
    with pytest.raises(ValueError, match="at least one pair"):
        log_rank([])
