"""Exact tests against scipy, published examples and enumeration; corrections; claims."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from foresee.metrics.stats import (
    Claim,
    Evidence,
    at_least,
    binomial,
    claims_of,
    differ,
    equivalence,
    fisher,
    holm,
    mcnemar,
    rate,
    sign_flip,
)

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
shares = st.floats(0.01, 0.99)


@given(counts, shares)
def test_binomial_tests_are_those_of_scipy(case: tuple[int, int], chance: float) -> None:
    successes, n = case
    assert at_least(successes, n, chance).p == pytest.approx(
        scipy_stats.binomtest(successes, n, chance, alternative="greater").pvalue, rel=1e-8, abs=1e-12
    )
    assert binomial(successes, n, chance).p == pytest.approx(
        scipy_stats.binomtest(successes, n, chance).pvalue, rel=1e-6, abs=1e-12
    )


@given(counts, st.floats(0.1, 0.9))
def test_equivalence_is_the_larger_of_two_one_sided_tests(case: tuple[int, int], chance: float) -> None:
    successes, n = case
    above = scipy_stats.binomtest(successes, n, chance - 0.05, alternative="greater").pvalue
    below = scipy_stats.binomtest(successes, n, chance + 0.05, alternative="less").pvalue
    assert equivalence(successes, n, chance, 0.05).p == pytest.approx(max(above, below), rel=1e-8, abs=1e-12)


def test_equivalence_with_one_side_only() -> None:
    # Chance 0.05 with a margin of 0.05: nothing is below 0.
    assert equivalence(0, 1000, 0.05, 0.05).p < 1e-40
    assert equivalence(1000, 1000, 0.95, 0.06).p < 1e-40
    assert equivalence(100, 1000, 0.05, 0.05).p > 0.4


@given(counts, counts)
def test_fisher_is_that_of_scipy(one: tuple[int, int], other: tuple[int, int]) -> None:
    (a, n), (b, m) = one, other
    found = fisher(a, n, b, m)
    assert found.p == pytest.approx(scipy_stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue, rel=1e-6)
    assert found.least is not None
    assert found.least <= found.p * (1 + 1e-12)


def test_the_lady_tasting_tea() -> None:
    # Fisher 1935: all four right has probability 1/70, so 2/70 on both sides; three right 34/70.
    assert fisher(4, 4, 0, 4).p == pytest.approx(2 / 70)
    assert fisher(3, 4, 1, 4).p == pytest.approx(34 / 70)
    assert fisher(3, 3, 0, 3).least == pytest.approx(0.1)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_a_sign_test(a: int, b: int) -> None:
    expected = scipy_stats.binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(a, b).p == pytest.approx(expected)


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


def test_three_pairs_cannot_show_anything() -> None:
    found = sign_flip([0.5, 0.49, 0.51])
    assert found.p == found.least == 0.25


@pytest.mark.parametrize("wrong", [[], [0.1] * 23])
def test_sign_flips_have_a_limit(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="paired differences"):
        sign_flip(wrong)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_impossible_chances_are_refused(chance: float) -> None:
    for test in (at_least, binomial):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            test(1, 2, chance)
    with pytest.raises(ValueError, match="successes in"):
        binomial(3, 2, 0.5)
    with pytest.raises(ValueError, match="must not be negative"):
        mcnemar(-1, 2)


def test_holms_own_example_and_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
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


def test_a_claim_carries_its_test() -> None:
    first, second = at_least(100, 100, 0.9), sign_flip([0.5, 0.4, 0.6])
    claims = claims_of([("it solved", first), ("they differ", second)])
    assert [claim.sentence for claim in claims] == ["it solved", "they differ"]
    assert claims[0] == Claim("it solved", first, 2 * first.p)
    assert [claim.shown for claim in claims] == [True, False]
    assert claims[1].json() == {
        "sentence": "they differ", "test": "exact sign-flip permutation test, two-sided", "statistic": 0.5, "p": 0.25,
        "n": 3, "unit": "pairs of runs", "least": 0.25, "corrected": 0.25, "shown": False,
    }  # fmt: skip
    assert Evidence("a test", 0.0, 1.0, 3, "runs").least is None


def test_a_rate_and_its_tests_agree() -> None:
    # The Wilson interval inverts the score test, so its ends lie near those of the exact test.
    row = rate(2600, 5000)
    assert row["low"] > 0.5
    assert binomial(2600, 5000, 0.5).p < 0.05
