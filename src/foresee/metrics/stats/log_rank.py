"""Whether one group has its events sooner than another: the log-rank test, exact where groups are small."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from foresee.metrics.stats.claim import Evidence
from foresee.metrics.stats.survival import Times

SLACK = 1e-9
MOST_ARRANGEMENTS = 200_000
"""Arrangements of runs into groups up to which the p-value is exact."""

Run = tuple[float, bool]


def log_rank(strata: Sequence[tuple[Times, Times]]) -> Evidence:
    """Compares two groups, with one pair of groups a stratum (a graph, say: runs are compared within it alone).

    The statistic is events of the first group minus those expected were both alike, summed over times and strata: below
    0 where the first group is the slower. With few runs the p-value is exact: the share of all arrangements of each
    stratum's runs into groups of these sizes whose statistic is as far from 0. Otherwise it is that of chi-squared with
    one degree of freedom (Mantel 1966). Censoring may not depend on the group, as it does not where all runs have the
    same budget.

    Raises ``ValueError`` where there is no stratum.
    """
    if not strata:
        raise ValueError("the log-rank test needs at least one pair of groups")
    observed = [_excess(_runs(first), _runs(second)) for first, second in strata]
    statistic = math.fsum(excess for excess, _ in observed)
    n = sum(len(first.times) + len(second.times) for first, second in strata)
    arrangements = math.prod(math.comb(len(a.times) + len(b.times), len(a.times)) for a, b in strata)
    if arrangements <= MOST_ARRANGEMENTS:
        counts = _distribution(strata)
        most = max(map(abs, counts))
        extreme = sum(count for value, count in counts.items() if abs(value) >= abs(statistic) - SLACK)
        least = sum(count for value, count in counts.items() if abs(value) >= most - SLACK)
        name = "log-rank test, exact" + (", stratified" if len(strata) > 1 else "")
        return Evidence(name, statistic, extreme / arrangements, n, "runs", least / arrangements)
    variance = math.fsum(each for _, each in observed)
    p = math.erfc(math.sqrt(statistic**2 / variance / 2)) if variance > 0 else 1.0
    return Evidence("log-rank test" + (", stratified" if len(strata) > 1 else ""), statistic, p, n, "runs")


def _runs(data: Times) -> list[Run]:
    return list(zip(data.times, data.came, strict=True))


def _excess(first: Sequence[Run], second: Sequence[Run]) -> tuple[float, float]:
    """Events of the first group minus those expected, and the variance of that (hypergeometric at each time)."""
    excess = variance = 0.0
    both = [*first, *second]
    for time in sorted({time for time, came in both if came}):
        at_risk, risk_first = sum(each >= time for each, _ in both), sum(each >= time for each, _ in first)
        events = sum(each == time and came for each, came in both)
        excess += sum(each == time and came for each, came in first) - events * risk_first / at_risk
        if at_risk > 1:
            share = risk_first / at_risk
            variance += events * share * (1 - share) * (at_risk - events) / (at_risk - 1)
    return excess, variance


def _distribution(strata: Sequence[tuple[Times, Times]]) -> Counter[float]:
    """How many arrangements give each value of the statistic."""
    total: Counter[float] = Counter({0.0: 1})
    for first, second in strata:
        both, size = [*_runs(first), *_runs(second)], len(first.times)
        here: Counter[float] = Counter()
        for chosen in combinations(range(len(both)), size):
            taken = set(chosen)
            one = [both[index] for index in chosen]
            other = [run for index, run in enumerate(both) if index not in taken]
            here[round(_excess(one, other)[0], 9)] += 1
        sums: Counter[float] = Counter()
        for value, count in total.items():
            for more, times in here.items():
                sums[round(value + more, 9)] += count * times
        total = sums
    return total
