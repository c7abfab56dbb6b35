"""What a measurement is, and the interval of a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from torch import Tensor

Z95 = 1.959963984540054
"""The standard normal quantile of a two-sided 95 % interval."""


class Row(TypedDict):
    """One measurement, as ``rows.jsonl`` holds it. A rate has the 95 % Wilson interval ``low`` to ``high``."""

    value: float
    n: int
    """Units that it rests on: test examples, transitions or seeds."""
    low: NotRequired[float]
    high: NotRequired[float]
    distance: NotRequired[int]
    """The planning distance of the examples, in rows that are apart for each."""
    reference: NotRequired[float]
    """The value of a perfect shortcut with a blind decision, where the task defines it."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a rate. Raises ``ValueError`` on no trials or more successes than trials."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: need at least one trial and from none to all successes")
    share = successes / n
    scale = 1.0 + Z95**2 / n
    centre = (share + Z95**2 / (2 * n)) / scale
    half = Z95 * math.sqrt(share * (1.0 - share) / n + (Z95 / (2 * n)) ** 2) / scale
    # Exact at the ends, where rounding could leave 1e-18 in place of 0.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def rate(successes: int, n: int) -> Row:
    """``successes`` of ``n`` with its interval. Raises ``ValueError`` for n = 0: a rate of nothing is absent, not 0."""
    low, high = wilson(successes, n)
    return {"value": successes / n, "low": low, "high": high, "n": n}


def share(flags: Tensor) -> Row:
    """The rate of true values in a bool tensor of any shape."""
    return rate(int(flags.sum()), flags.numel())


def share_by_position(flags: Tensor, mask: Tensor) -> list[Row]:
    """[B, A] bool, counted where ``mask`` [B, A] is true -> a rate for each position, of the rows that have it."""
    counts = zip((flags & mask).sum(0).tolist(), mask.sum(0).tolist(), strict=True)
    return [rate(count, rows) for count, rows in counts]


def share_solved(solved: Sequence[bool]) -> Row:
    """The share of seeds that solved. Outcomes over seeds are bimodal, so this stands in for a mean of accuracies."""
    return rate(sum(solved), len(solved))


def mean(values: Tensor) -> Row:
    """The mean of values [n] with its 95 % interval (normal, so for n of a few dozen or more; for a single value the
    interval is left out). Raises ``ValueError`` for n = 0."""
    count = values.numel()
    if not count:
        raise ValueError("a mean of nothing is absent, not 0")
    values = values.double()
    row: Row = {"value": float(values.mean()), "n": count}
    if count > 1:
        half = Z95 * float(values.std()) / math.sqrt(count)
        row["low"], row["high"] = row["value"] - half, row["value"] + half
    return row
