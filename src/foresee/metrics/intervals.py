"""What a measurement is, and its interval. The unit of evidence is a problem, not a row.

Rows of one problem (all goals of a graph, say) are a cluster: right together or wrong together, to a degree that is
measured. Intervals and tests use the *effective* number of rows: n over the design effect, the variance of the rate
between clusters beside that of independent rows (Rao & Scott 1992; Kish 1965). With a thousand problems intervals
cover 93 to 97 % for groups of up to 20 rows, whatever ties them (tests/test_coverage.py). With a hundred, near 0 or 1
and with some groups all alike and others not at all, they are too narrow: as few as two in three cover.
"""

from __future__ import annotations

import math
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from foresee.core.errors import RequestError

Z95 = 1.959963984540054
"""The standard normal quantile of a two-sided 95 % interval."""


class Row(TypedDict):
    """One measurement, as ``rows.jsonl`` holds it. A rate has the 95 % Wilson interval ``low`` to ``high``."""

    value: float
    n: int
    """Rows that it was measured on: test examples, transitions or seeds."""
    problems: NotRequired[int]
    """Distinct problems among them."""
    effective: NotRequired[float]
    """Independent rows that they are worth, where that is not ``n``."""
    low: NotRequired[float]
    high: NotRequired[float]
    distance: NotRequired[int]
    """The planning distance of the examples, in rows that are apart for each."""
    reference: NotRequired[float]
    """The value of a perfect shortcut with a blind decision, where the task defines it and it is not ``chance``."""


def is_measurement(row: object) -> bool:
    """Whether it is a value with the number of examples it was measured on, and nothing but numbers."""
    return (
        isinstance(row, dict)
        and {"value", "n"} <= row.keys()
        and all(isinstance(number, int | float) and math.isfinite(number) for number in row.values())
    )


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share of ``n`` independent trials, which may be no whole number.

    SciPy has it for whole numbers alone (a test holds them together). Raises ``ValueError`` on no trials or a share
    outside 0 to 1.
    """
    if not n > 0 or not 0 <= share <= 1:
        raise ValueError(f"a share of {share} of {n} trials: need a share from 0 to 1 of at least one trial")
    scale = 1.0 + Z95**2 / n
    centre = (share + Z95**2 / (2 * n)) / scale
    half = Z95 * math.sqrt(share * (1.0 - share) / n + (Z95 / (2 * n)) ** 2) / scale
    # Exact at the ends, where rounding could leave 1e-18 in place of 0.
    return (0.0 if share == 0 else centre - half), (1.0 if share == 1 else centre + half)


def rate(successes: int, n: int) -> Row:
    """``successes`` of ``n`` independent trials. Raises ``ValueError`` for n = 0: a rate of nothing is absent."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: need at least one trial and from none to all successes")
    low, high = wilson(successes / n, n)
    return {"value": successes / n, "low": low, "high": high, "n": n}


def share(flags: Tensor, problems: Tensor) -> Row:
    """The rate of true values among ``flags`` [n] bool, whose rows belong to ``problems`` [n] int64 (any numbers)."""
    if flags.dtype != torch.bool:
        raise RequestError(f"share counts true and false, not {flags.dtype}; mean takes numbers")
    flags, problems = _paired(flags, problems)
    n = flags.numel()
    _, cluster = torch.unique(problems, return_inverse=True)
    size = torch.bincount(cluster).double()
    right = torch.bincount(cluster, weights=flags.double(), minlength=len(size))
    count, value = len(size), int(flags.sum()) / n if n else 0.0
    if count == n:
        return {**rate(int(flags.sum()), n), "problems": n}
    # Where all rows are alike nothing tells how clusters vary; each may be one row's worth.
    effective = float(count)
    if 0 < value < 1 and count > 1:
        between = count / (count - 1) * float(((right - value * size) ** 2).sum())
        # Rows of a problem that exclude each other would be worth more than independent ones; that is not relied on.
        effective = n / max(1.0, between / (n * value * (1 - value)))
    low, high = wilson(value, effective)
    return {"value": value, "low": low, "high": high, "n": n, "problems": count, "effective": effective}


def _paired(values: Tensor, problems: Tensor) -> tuple[Tensor, Tensor]:
    """Both on the CPU, since not every device has float64. Raises ``RequestError`` where they are not as many."""
    values, problems = torch.as_tensor(values).cpu(), torch.as_tensor(problems).cpu()
    if values.shape != problems.shape:
        raise RequestError(
            f"values {list(values.shape)} of problems {list(problems.shape)}: give each value its problem"
        )
    return values, problems


def share_by_position(flags: Tensor, mask: Tensor, problems: Tensor) -> list[Row]:
    """[B, A] bool, counted where ``mask`` [B, A] is true -> a rate for each position, of the rows that have it."""
    return [share(flags[rows, at], problems[rows]) for at, rows in enumerate(mask.unbind(1)) if rows.any()]


def mean(values: Tensor, problems: Tensor) -> Row:
    """The mean of ``values`` [n] with its 95 % interval, from the spread of the means of ``problems`` [n]; normal, so
    for a few dozen problems or more. One problem has no interval. Raises ``ValueError`` for n = 0."""
    values, problems = _paired(values, problems)
    if not (n := values.numel()):
        raise ValueError("a mean of nothing is absent, not 0")
    _, cluster = torch.unique(problems, return_inverse=True)
    size = torch.bincount(cluster).double()
    value, count = float(values.mean(dtype=torch.float64)), len(size)
    row: Row = {"value": value, "n": n, "problems": count}
    if count > 1:
        off = torch.bincount(cluster, weights=values.double() - value, minlength=count)
        half = Z95 * math.sqrt(count / (count - 1) * float((off**2).sum())) / n
        row["low"], row["high"] = value - half, value + half
    return row
