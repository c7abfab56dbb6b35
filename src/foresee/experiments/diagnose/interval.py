"""Means over held-out examples and seeds, with intervals."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

Z = 1.959964
"""Of a two-sided 95 % normal interval."""


def ratio(sums: Tensor, counts: Tensor) -> dict[str, Any] | None:
    """``sums.sum() / counts.sum()`` with a 95 % interval; None where nothing is counted.

    ``sums`` [S, E] belong to S seeds and the same E examples; ``counts`` is [E] or [S, E]. A mean over tokens has a
    token's loss summed over each example, and how many there are: tokens of one example are not independent, so the
    example is the unit. The variance adds two: that of examples, of values averaged over seeds (the ratio linearised),
    and that of seeds, where there are several. Both are normal approximations; with a few seeds the second is rough, so
    ``seeds`` lists each one's value.
    """
    counts = counts.double().expand(sums.shape)
    sums = sums.double()
    total = float(counts.sum())
    if total == 0:
        return None
    value = float(sums.sum()) / total
    used = int((counts != 0).any(0).sum())
    residuals = (sums - value * counts).mean(0)
    variance = 0.0
    if used > 1:
        variance = float((residuals**2).sum()) * used / (used - 1) / (total / len(sums)) ** 2
    each = [float(s.sum() / c.sum()) if float(c.sum()) else value for s, c in zip(sums, counts, strict=True)]
    if len(each) > 1:
        variance += float(torch.tensor(each, dtype=torch.float64).var()) / len(each)
    half = Z * math.sqrt(variance)
    return {"value": value, "low": value - half, "high": value + half, "n": used, "seeds": each}


def share(sums: Tensor, counts: Tensor) -> dict[str, Any] | None:
    """``ratio`` of something that lies from 0 to 1; so does its interval then."""
    row = ratio(sums, counts)
    return None if row is None else row | {"low": max(0.0, row["low"]), "high": min(1.0, row["high"])}
