"""Exact tests for the few runs and the many test examples that there are.

Which one fits what a run keeps. A run keeps counts (right answers out of n test examples) and no outcome of a single
example, and all seeds are tested on the same examples. So runs are compared

* with a known rate (chance) by ``binomial`` and ``equivalence``, one run at a time;
* with each other as the trained models that they are, by ``differ``, which holds however their outcomes on the same
  examples depend on each other;
* with each other over seeds, the seed being the unit: ``sign_flip`` where runs are paired (same seed, same training
  examples and their order), ``fisher`` where only how many solved is known of two groups.

``mcnemar`` compares two trained models example by example; it needs outcomes that run folders do not keep, and it says
nothing about other seeds. Nothing here treats the pooled examples of several seeds as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from foresee.metrics.stats.claim import Evidence

SLACK = 1e-9
"""Relative difference below which two probabilities or statistics count as equal, so that ties are ties in floating
point as well."""

MOST_FLIPS = 22
"""Pairs up to which ``sign_flip`` goes through every assignment of signs (2 to this power)."""


def binomial(successes: int, n: int, chance: float) -> Evidence:
    """Whether a rate differs from ``chance``: the exact two-sided test, whose p-value is the probability of all counts
    that are at most as probable as the one observed. Raises ``ValueError`` on impossible counts or chances."""
    _check(successes, n)
    _check_share(chance)
    observed = _log_binomial(successes, n, chance)
    p = math.fsum(
        math.exp(each) for count in range(n + 1) if (each := _log_binomial(count, n, chance)) <= observed + SLACK
    )
    return Evidence("exact binomial, two-sided", successes / n, min(1.0, p), n, "test examples")


def equivalence(successes: int, n: int, chance: float, margin: float) -> Evidence:
    """Whether a rate lies within ``margin`` of ``chance``: two one-sided exact binomial tests (Schuirmann 1987), of
    which the larger p-value counts. A small p-value is evidence that the rate *is* near chance, which failing to find a
    difference is not. Where chance - margin is not above 0, or chance + margin not below 1, that side holds by itself.
    """
    _check(successes, n)
    _check_share(chance)
    low, high = chance - margin, chance + margin
    above = 0.0 if low <= 0.0 else _at_least(successes, n, low)
    below = 0.0 if high >= 1.0 else _at_least(n - successes, n, 1.0 - high)
    return Evidence(f"two one-sided exact binomial tests, margin {margin:g}", successes / n, max(above, below), n,
                "test examples")  # fmt: skip


def at_least(successes: int, n: int, floor: float) -> Evidence:
    """Whether a rate lies above ``floor``: the exact one-sided binomial test, whose p-value is the probability of as
    many successes or more were the rate ``floor``."""
    _check(successes, n)
    _check_share(floor)
    return Evidence("exact binomial, one-sided", successes / n, _at_least(successes, n, floor), n, "test examples")


def differ(pairs: Sequence[tuple[int, int, int]]) -> Evidence:
    """Whether of two models the first is right more often than the second, or less often, in every pair: each pair is
    (right answers of the first, of the second, test examples of each).

    Models of one pair may be tested on the same examples, whose outcomes then depend on each other in a way that counts
    do not tell; models of different pairs may be too. For one pair and one direction the p-value is twice the value at
    which exact one-sided binomial tests of "first above t" and "second below t" meet as t varies. That is valid
    whatever the dependence: for both to be rejected at some t, the lower bound of the first must lie above the upper
    bound of the second, and were the first no better, one of these two bounds would have to be wrong. The largest
    p-value of all pairs counts (every one must differ), and both directions double it. The statistic is the mean
    difference of rates. Raises ``ValueError`` for no pairs or impossible counts.
    """
    if not pairs:
        raise ValueError("comparing models takes at least one pair")
    for first, second, n in pairs:
        _check(first, n)
        _check(second, n)
    more = max(_separated(first, second, n) for first, second, n in pairs)
    less = max(_separated(second, first, n) for first, second, n in pairs)
    difference = math.fsum((first - second) / n for first, second, n in pairs) / len(pairs)
    examples = min(n for _, _, n in pairs)
    return Evidence(
        "two exact binomial tests, union bound", difference, min(1.0, 2 * min(more, less)),
        examples, "test examples",
    )  # fmt: skip


def _separated(first: int, second: int, n: int) -> float:
    """The one-sided p-value of ``differ`` for one pair."""
    if first <= second:
        return 1.0
    low, high = second / n, first / n
    for _ in range(60):  # the first test's value rises with t and the second's falls
        middle = (low + high) / 2
        if _at_least(first, n, middle) < _at_least(n - second, n, 1.0 - middle):
            low = middle
        else:
            high = middle
    return min(1.0, 2 * max(_at_least(first, n, low), _at_least(n - second, n, 1.0 - low)))


def fisher(solved_a: int, n_a: int, solved_b: int, n_b: int) -> Evidence:
    """Whether two groups differ in how many of them solved: Fisher's exact test, two-sided (the probability of all
    tables with the same margins that are at most as probable). The statistic is the difference of the shares."""
    _check(solved_a, n_a)
    _check(solved_b, n_b)
    total, solved = n_a + n_b, solved_a + solved_b
    ways = {
        count: math.comb(n_a, count) * math.comb(n_b, solved - count)
        for count in range(max(0, solved - n_b), min(n_a, solved) + 1)
    }
    every = math.comb(total, solved)
    p = sum(each for each in ways.values() if each <= ways[solved_a]) / every
    least = sum(each for each in ways.values() if each == min(ways.values())) / every
    difference = solved_a / n_a - solved_b / n_b
    return Evidence("Fisher's exact test, two-sided", difference, p, total, "runs", least)


def mcnemar(only_a: int, only_b: int) -> Evidence:
    """Whether two models differ on the same test examples: the exact test on the examples that only one of them got
    right (McNemar 1947). The statistic is ``only_a - only_b``."""
    if only_a < 0 or only_b < 0:
        raise ValueError(f"{only_a} and {only_b} examples: counts must not be negative")
    n = only_a + only_b
    p = min(1.0, 2 * sum(math.comb(n, count) for count in range(min(only_a, only_b) + 1)) / 2**n)
    return Evidence(
        "McNemar's exact test, two-sided", only_a - only_b, p, n, "test examples that differ", 2 / 2 ** max(1, n)
    )


def sign_flip(differences: Sequence[float]) -> Evidence:
    """Whether paired differences are centred on 0: the exact permutation test in which each may have either sign
    (Fisher 1935), two-sided, the statistic being their mean.

    It assumes that, were there no difference, either run of a pair could have given either value, independently from
    pair to pair. Raises ``ValueError`` for no pairs or more than 22, beyond which going through all signs is slow.
    """
    n = len(differences)
    if not 1 <= n <= MOST_FLIPS:
        raise ValueError(f"{n} paired differences: the exact test takes from 1 to {MOST_FLIPS}")
    sums = [0.0]
    for difference in differences:
        sums = [each + signed for each in sums for signed in (difference, -difference)]
    observed = abs(math.fsum(differences))
    scale = math.fsum(map(abs, differences))
    extreme = sum(abs(each) >= observed - SLACK * scale for each in sums)
    moving = sum(difference != 0 for difference in differences)
    return Evidence(
        "exact sign-flip permutation test, two-sided", math.fsum(differences) / n, extreme / 2**n, n, "pairs of runs",
        2 / 2 ** max(1, moving),
    )  # fmt: skip


def _at_least(count: int, n: int, share: float) -> float:
    """The probability of ``count`` successes or more."""
    if count <= n * share:  # not in the tail, where the other side is the shorter sum and loses no digit that matters
        return 1.0 if count <= 0 else 1.0 - _at_least(n - count + 1, n, 1.0 - share)
    term = math.exp(_log_binomial(count, n, share)) if count <= n else 0.0
    total = 0.0
    while count <= n and term > total * 1e-17:
        total += term
        term *= (n - count) / (count + 1) * share / (1.0 - share)
        count += 1
    return total


def _log_binomial(count: int, n: int, share: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
    return ways + count * math.log(share) + (n - count) * math.log1p(-share)


def _check(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: need at least one trial and from none to all successes")


def _check_share(chance: float) -> None:
    if not 0.0 < chance < 1.0:
        raise ValueError(f"chance {chance} must lie between 0 and 1")
