"""Times to an event that may not have come: steps to solve.

A run that did not solve is not dropped, and not counted as one that never would: it is *censored* at its last step,
which says only that solving takes longer than that. (That a run is looked at every few hundred steps, so that the
event is known to that grid alone, is left out of account.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist


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
    first, all of them. ``low`` and ``high`` bound it pointwise (95 %); ``at_risk[i]`` runs were still looked at just
    before ``at[i]``. ``end`` is the longest time looked at: beyond it the curve is unknown."""

    at: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    at_risk: tuple[int, ...]
    end: float
    n: int


def kaplan_meier(data: Times, confidence: float = 0.95) -> Curve:
    """The product-limit estimate (Kaplan & Meier 1958), with Greenwood's variance (1926) and the interval that is
    symmetric for log(-log(share)) (Kalbfleisch & Prentice), which never leaves [0, 1].

    Runs censored at the time of an event count as at risk then. Where the share is 0, the interval's formula has no
    value; its low end is then 0 and its high end that of the point before it (1 where there is none).
    """
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    share, greenwood, high = 1.0, 0.0, 1.0
    points: list[tuple[float, float, float, float, int]] = []
    for time in sorted({time for time, came in zip(data.times, data.came, strict=True) if came}):
        at_risk = sum(each >= time for each in data.times)
        events = sum(each == time and came for each, came in zip(data.times, data.came, strict=True))
        share *= 1.0 - events / at_risk
        if events < at_risk:
            greenwood += events / (at_risk * (at_risk - events))
            width = z * math.sqrt(greenwood) / math.log(share)
            low, high = share ** math.exp(-width), share ** math.exp(width)
        else:
            low = 0.0
        points.append((time, share, low, high, at_risk))
    at, shares, lows, highs, risks = zip(*points, strict=True) if points else ((), (), (), (), ())
    return Curve(at, shares, lows, highs, risks, max(data.times), len(data.times))


def median(curve: Curve) -> float | None:
    """The first time by which at least half have had the event; None where the curve ends above a half."""
    return next((at for at, share in zip(curve.at, curve.share, strict=True) if share <= 0.5 + 1e-12), None)


def restricted_mean(curve: Curve, horizon: float | None = None) -> float:
    """The mean time up to ``horizon`` (the area under the curve), a run without the event counting as ``horizon``.

    The horizon is the end of the curve unless given; compare groups at one horizon. Raises ``ValueError`` where it lies
    beyond the end while some have not had the event, since the curve is unknown there.
    """
    horizon = curve.end if horizon is None else horizon
    rest = curve.share[-1] if curve.share else 1.0
    if horizon > curve.end and rest > 0.0:
        raise ValueError(f"horizon {horizon} lies beyond {curve.end}, to which the curve is known")
    edges = [0.0, *(at for at in curve.at if at < horizon), horizon]
    heights = [1.0, *curve.share]
    return math.fsum(height * (edges[i + 1] - edges[i]) for i, height in enumerate(heights[: len(edges) - 1]))
