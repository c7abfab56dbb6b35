"""Rates and their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

Row = dict[str, Any]
"""A measurement as it is written to ``rows.jsonl``: a rate is ``{"value", "low", "high", "n"}`` (95 % Wilson
interval)."""


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval (Wilson 1927) of a rate: all p that a two-sided score test at level ``1 - confidence``
    does not reject.

    Unlike ``p +- z * se`` it has width at 0 of n and n of n and never leaves [0, 1]. Raises ``ValueError`` unless
    ``0 <= successes <= n``, ``n >= 1`` and ``0 < confidence < 1``.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: need at least one trial and from none to all successes")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1")
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    share = successes / n
    scale = 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1.0 - share) / n + (z / (2 * n)) ** 2) / scale
    # Exact at the ends, where rounding could leave 1e-18 in place of 0.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def rate(successes: int, n: int) -> Row:
    """``successes`` of ``n`` with its 95 % Wilson interval. Raises ``ValueError`` as ``wilson`` does, so for n = 0 too:
    a rate of nothing is absent, never zero."""
    low, high = wilson(successes, n)
    return {"value": successes / n, "low": low, "high": high, "n": n}


def share_solved(solved: Sequence[bool]) -> Row:
    """The share of seeds that solved, one bool a seed. Outcomes over seeds are bimodal, so this stands in for a mean of
    accuracies. Raises ``ValueError`` where there are no seeds."""
    return rate(sum(solved), len(solved))
