"""Steps to solve, times to an event that may not have come, and whether one group has it sooner than another.

A run that did not solve is not dropped, and not counted as one that never would: it is *censored* at its last step,
which says only that solving takes longer than that. (That a run is looked at every few hundred steps, so that the
event is known to that grid alone, is left out of account.)
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from foresee.metrics.significance import Evidence

MOST_ARRANGEMENTS = 200_000
"""Arrangements of runs into groups up to which the p-value is exact."""

Run = tuple[float, bool]


@dataclass(frozen=True)
class Times:
    """One time a run, and whether the event came then (True) or the run ended without it (False: censored).

    Raises ``ValueError`` where there are no runs, lengths differ or a time is negative or not finite.
    """

    times: tuple[float, ...]
    came: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.times or len(self.times) != len(self.came):
            raise ValueError(f"{len(self.times)} times and {len(self.came)} outcomes: need one of each a run")
        if not all(0 <= time < math.inf for time in self.times):
            raise ValueError(f"times {self.times} must be finite and not negative")

    @staticmethod
    def of(solved_at: Sequence[float | None], last: Sequence[float]) -> Times:
        """From the step at which each run solved, None where it did not, and the last step of each."""
        pairs = list(zip(solved_at, last, strict=True))
        return Times(tuple(end if at is None else at for at, end in pairs), tuple(at is not None for at, _ in pairs))


@dataclass(frozen=True)
class Curve:
    """A survival curve: ``share[i]`` of runs have not had the event at ``at[i]`` and until the next one; before the
    first, all of them. ``low`` and ``high`` bound it pointwise (95 %); ``at_risk[i]`` runs were still looked at
    just before ``at[i]``. ``end`` is the longest time looked at: beyond it the curve is unknown."""

    at: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    at_risk: tuple[int, ...]
    end: float
    n: int


def kaplan_meier(data: Times) -> Curve:
    """The product-limit estimate (Kaplan & Meier 1958), its interval symmetric for log(-log(share)).

    Runs censored at the time of an event count as at risk then. Where the share is 0, the interval's formula has no
    value; its low end is then 0 and its high end that of the point before it (1 where there is none).
    """
    from scipy.stats import CensoredData, ecdf  # here: reading SciPy's statistics takes half a second

    uncensored = [time for time, came in zip(data.times, data.came, strict=True) if came]
    events = sorted(set(uncensored))
    if not events:
        return Curve((), (), (), (), (), max(data.times), len(data.times))
    right = [time for time, came in zip(data.times, data.came, strict=True) if not came]
    survival = ecdf(CensoredData(uncensored=uncensored, right=right)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where the share is 0
        interval = survival.confidence_interval(0.95, method="log-log")
    shares = [float(each) for each in survival.evaluate(events)]
    lows, highs = ([float(each) for each in side.evaluate(events)] for side in (interval.low, interval.high))
    for i, share in enumerate(shares):
        if share <= 0.0:
            lows[i], highs[i] = 0.0, highs[i - 1] if i else 1.0
    at_risk = tuple(sum(each >= time for each in data.times) for time in events)
    return Curve(tuple(events), tuple(shares), tuple(lows), tuple(highs), at_risk, max(data.times), len(data.times))


def median(data: Times) -> float | None:
    """The time by which half of all had had the event; None where so many were not seen to have it. Unlike the curve's
    own median it rests on no run that was stopped before."""
    half, events = -(-len(data.times) // 2), sorted(at for at, came in zip(data.times, data.came, strict=True) if came)
    return events[half - 1] if half <= len(events) else None


def restricted_mean(curve: Curve) -> float:
    """The mean time up to the end of the curve (the area under it), a run without the event counting as that."""
    edges, heights = [0.0, *curve.at, curve.end], [1.0, *curve.share]
    return math.fsum(height * (edges[i + 1] - edges[i]) for i, height in enumerate(heights))


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
    sizes, runs = [len(first.times) for first, _ in strata], [_runs(first) + _runs(second) for first, second in strata]
    scores = [_scores(each) for each in runs]
    statistic = sum((sum(each[:size], Fraction()) for each, size in zip(scores, sizes, strict=True)), Fraction())
    n, name = sum(map(len, runs)), ", stratified" if len(strata) > 1 else ""
    arrangements = math.prod(math.comb(len(each), size) for each, size in zip(runs, sizes, strict=True))
    if arrangements <= MOST_ARRANGEMENTS:
        counts = _distribution(scores, sizes)
        most = max(map(abs, counts))
        extreme = sum(count for value, count in counts.items() if abs(value) >= abs(statistic))
        least = sum(count for value, count in counts.items() if abs(value) == most)
        name = f"log-rank test, exact{name}"
        return Evidence(name, float(statistic), extreme / arrangements, n, "runs", least / arrangements)
    variance = math.fsum(_variance(each, size) for each, size in zip(runs, sizes, strict=True))
    p = math.erfc(math.sqrt(float(statistic) ** 2 / variance / 2)) if variance > 0 else 1.0
    return Evidence(f"log-rank test{name}", float(statistic), p, n, "runs")


def _runs(data: Times) -> list[Run]:
    return list(zip(data.times, data.came, strict=True))


def _at_risk(runs: Sequence[Run]) -> list[tuple[float, int, int]]:
    """Each time of an event, how many events it has, and how many runs were still looked at."""
    times = sorted({time for time, came in runs if came})
    return [
        (time, sum(each == time and came for each, came in runs), sum(each >= time for each, _ in runs))
        for time in times
    ]


def _scores(runs: Sequence[Run]) -> list[Fraction]:
    """What each run adds to the statistic where it is of the first group: its event, less those expected of it. In
    fractions, so that sums that are equal compare so."""
    hazards = [(time, Fraction(events, at_risk)) for time, events, at_risk in _at_risk(runs)]
    return [came - sum((hazard for at, hazard in hazards if at <= time), Fraction()) for time, came in runs]


def _variance(runs: Sequence[Run], size: int) -> float:
    """Of the events of the first ``size`` runs at each time, given all (hypergeometric)."""
    variance = 0.0
    for time, events, at_risk in _at_risk(runs):
        if at_risk > 1:
            share = sum(each >= time for each, _ in runs[:size]) / at_risk
            variance += events * share * (1 - share) * (at_risk - events) / (at_risk - 1)
    return variance


def _distribution(scores: Sequence[Sequence[Fraction]], sizes: Sequence[int]) -> Counter[Fraction]:
    """How many arrangements give each value of the statistic."""
    total = Counter({Fraction(): 1})
    for each, size in zip(scores, sizes, strict=True):
        here = Counter(sum(chosen, Fraction()) for chosen in combinations(each, size))
        sums: Counter[Fraction] = Counter()
        for value, count in total.items():
            for more, times in here.items():
                sums[value + more] += count * times
        total = sums
    return total
