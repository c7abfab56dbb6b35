"""Fingerprints of rows of tokens: equal rows have equal ones, and others differ but for one pair in 2^64."""

from __future__ import annotations

from typing import Any

import numpy
from numpy.typing import NDArray

from foresee.core.fingerprints import Fingerprints, mix

_ODD = 0x9E3779B97F4A7C15
"""Distinct multiples of an odd number are distinct 64-bit words."""


def fingerprints(flat: NDArray[Any], lengths: NDArray[numpy.int64]) -> Fingerprints:
    """[rows] of rows of tokens that lie one after the other in ``flat``; a row may be empty."""
    ends = numpy.cumsum(lengths)
    places = numpy.arange(len(flat), dtype=numpy.int64) - numpy.repeat(ends - lengths, lengths)
    words = mix(mix((places + 1).astype(numpy.uint64)) + flat.astype(numpy.uint64) * numpy.uint64(_ODD))
    sums = numpy.concatenate((numpy.zeros(1, numpy.uint64), numpy.cumsum(words, dtype=numpy.uint64)))
    return mix(sums[ends] - sums[ends - lengths] + lengths.astype(numpy.uint64))
