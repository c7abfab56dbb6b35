"""Claims and the exact tests that they rest on.

A run keeps rates and what they are worth (``Row.effective``; ``n`` where its rows are independent), and all seeds are
tested on the same examples. So a run is compared with a known rate by ``equivalence`` and ``at_least``; with another
trained model by ``differ``, which holds however their outcomes on the same examples depend on each other; and over
seeds, the seed being the unit, by ``sign_flip`` where runs are paired and ``log_rank`` (survival.py) where they have
times. The pooled examples of several seeds are never treated as independent.
SciPy is imported where it is used: reading its statistics takes half a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

ALPHA = 0.05
"""Largest corrected p-value at which a claim counts as shown."""
MOST_FLIPS = 22
"""Pairs up to which ``sign_flip`` goes through every assignment of signs (2 to this power)."""
SIGNS_AT_ONCE = 1 << 14
"""All at once, those of 22 pairs would take 4 GB."""


@dataclass(frozen=True)
class Evidence:
    """What a test found. ``n`` is how many units it rests on (seeds, pairs of runs, test examples: ``unit`` says).

    ``least`` is the smallest p-value that this test could have given with that many units, where that is known: with
    three seeds against three no exact test goes below 0.1, whatever is measured.
    """

    name: str
    statistic: float
    p: float
    n: int
    unit: str
    least: float | None = None

    @property
    def direction(self) -> str:
        """Where the first of two things that are compared lies, by the sign of the statistic."""
        return "above" if self.statistic > 0 else "below"

    @property
    def is_least(self) -> bool:
        """Whether the p-value is the smallest that there could have been."""
        return self.least is not None and self.p <= self.least * (1 + 1e-9)

    def as_largest_of(self, count: int, one: str) -> Evidence:
        """The same, said to be that of the largest p-value of so many."""
        return replace(self, name=f"{self.name}; largest p-value of {count} {one}{'s' * (count > 1)}")


def count_as(count: int, one: str) -> str:
    """Under how many of them a statement holds that holds under all of them."""
    return f"the one {one}" if count == 1 else f"each of {count} {one}s"


@dataclass(frozen=True)
class Claim:
    """A sentence that a report prints, with the test behind it; one that is not ``shown`` is not refuted.

    ``corrected`` is the p-value corrected for all claims that were made together (Holm).
    """

    sentence: str
    evidence: Evidence
    corrected: float

    @property
    def shown(self) -> bool:
        """Whether the corrected p-value is at most 0.05."""
        return self.corrected <= ALPHA

    def json(self) -> dict[str, Any]:
        """Plain data."""
        flat = asdict(self.evidence)
        return {"sentence": self.sentence, "test": flat.pop("name"), **flat, "corrected": self.corrected,
                "shown": self.shown}  # fmt: skip


def correct_claims(tested: Sequence[tuple[str, Evidence]]) -> list[Claim]:
    """Sentences and their tests as claims, corrected for each other by Holm's method."""
    corrected = holm([evidence.p for _, evidence in tested])
    return [Claim(sentence, evidence, p) for (sentence, evidence), p in zip(tested, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given (Holm 1979), valid whatever the dependence between the tests.

    SciPy corrects for false discoveries alone. Raises ``ValueError`` where a value is no probability.
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError(f"p-values {list(p_values)} must lie between 0 and 1")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        # A larger p-value is never adjusted to less than a smaller one.
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def at_least(successes: float, n: float, floor: float) -> Evidence:
    """Whether a rate lies above ``floor``: the exact one-sided binomial test on ``successes`` of ``n`` independent or
    effective trials, which need not be whole numbers. Raises ``ValueError`` on impossible
    counts or a floor outside (0, 1)."""
    _check(successes, n, floor)
    return Evidence(
        "exact binomial, one-sided", successes / n, _upper_tail(successes, n, floor), round(n), "test examples"
    )


def equivalence(successes: float, n: float, chance: float, margin: float) -> Evidence:
    """Whether a rate lies within ``margin`` of ``chance``: two one-sided exact binomial tests (Schuirmann 1987), of
    which the larger p-value counts. A small one is evidence that the rate *is* near chance, which failing to find a
    difference is not. Where chance - margin is not above 0, or chance + margin not below 1, that side holds by itself.
    """
    _check(successes, n, chance)
    low, high = chance - margin, chance + margin
    above = 0.0 if low <= 0.0 else _upper_tail(successes, n, low)
    below = 0.0 if high >= 1.0 else _upper_tail(n - successes, n, 1.0 - high)
    name = f"two one-sided exact binomial tests, margin {margin:g}"
    return Evidence(name, successes / n, max(above, below), round(n), "test examples")


def differ(pairs: Sequence[tuple[float, float, float]]) -> Evidence:
    """Whether of two models the first is right more often than the second, or less often, in every pair: each pair is
    (right answers of the first, of the second, test examples of each).

    For one pair and one direction the p-value is twice the value at which exact one-sided binomial tests of "first
    above t" and "second below t" meet as t varies. That is valid whatever the dependence of outcomes on shared
    examples: for both to be rejected at some t, the lower bound of the first must lie above the upper bound of the
    second, and were the first no better, one of these bounds would have to be wrong. The largest p-value of all pairs
    counts, and both directions double it. The statistic is the mean difference of rates. Raises ``ValueError`` for no
    pairs or impossible counts.
    """
    if not pairs:
        raise ValueError("comparing models takes at least one pair")
    for first, second, n in pairs:
        _check(first, n)
        _check(second, n)
    more = max(_separated(first, second, n) for first, second, n in pairs)
    less = max(_separated(second, first, n) for first, second, n in pairs)
    difference = math.fsum((first - second) / n for first, second, n in pairs) / len(pairs)
    examples = round(min(n for _, _, n in pairs))
    p = min(1.0, 2 * min(more, less))
    return Evidence("two exact binomial tests, union bound", difference, p, examples, "test examples")


def _separated(first: float, second: float, n: float) -> float:
    """The one-sided p-value of ``differ`` for one pair."""
    from scipy.optimize import brentq

    if first <= second:
        return 1.0

    def gap(t: float) -> float:  # the first test's value rises with t and the second's falls
        return _upper_tail(first, n, t) - _upper_tail(n - second, n, 1.0 - t)

    if gap(second / n) >= 0 or gap(first / n) <= 0:  # less than one answer apart: they meet nowhere between
        return 1.0
    meet = brentq(gap, second / n, first / n, xtol=1e-12)
    return min(1.0, 2 * max(_upper_tail(first, n, meet), _upper_tail(n - second, n, 1.0 - meet)))


def sign_flip(differences: Sequence[float]) -> Evidence:
    """Whether paired differences are centred on 0: the exact permutation test in which each may have either sign
    (Fisher 1935), two-sided, the statistic being their mean.

    It assumes that, were there no difference, either run of a pair could have given either value, independently from
    pair to pair. Raises ``ValueError`` for no pairs or more than 22, beyond which going through all signs is slow.
    """
    import numpy
    from scipy.stats import permutation_test

    n = len(differences)
    if not 1 <= n <= MOST_FLIPS:
        raise ValueError(f"{n} paired differences: the exact test takes from 1 to {MOST_FLIPS}")
    p = 1.0  # of a single pair, which SciPy refuses: both signs are as extreme
    if n > 1:
        sample = (numpy.asarray(differences),)
        every: dict[str, Any] = {"permutation_type": "samples", "n_resamples": numpy.inf, "batch": SIGNS_AT_ONCE}
        p = float(permutation_test(sample, numpy.mean, **every).pvalue)
    moving = sum(difference != 0 for difference in differences)
    name = "exact sign-flip permutation test, two-sided"
    return Evidence(name, math.fsum(differences) / n, p, n, "pairs of runs", 2 / 2 ** max(1, moving))


def _upper_tail(count: float, n: float, share: float) -> float:
    """The probability of ``count`` successes or more: the binomial's, carried on between whole numbers as its
    incomplete beta function is."""
    from scipy.special import betainc

    return 1.0 if count <= 0 else float(betainc(count, n - count + 1, share))


def _check(successes: float, n: float, share: float = 0.5) -> None:
    if not n > 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: need at least one trial and from none to all successes")
    if not 0.0 < share < 1.0:
        raise ValueError(f"chance {share} must lie between 0 and 1")
