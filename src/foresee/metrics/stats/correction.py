"""Correction of p-values for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given (Holm 1979).

    Refusing every hypothesis whose adjusted value is at most ``alpha`` keeps the chance of refusing any true one below
    ``alpha``, whatever the dependence between the tests. Raises ``ValueError`` where a value is no probability.
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
