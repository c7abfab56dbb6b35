"""A mixing of 64-bit words: fingerprints of problems, and the split that they decide."""

from __future__ import annotations

import numpy
from numpy.typing import NDArray

Fingerprints = NDArray[numpy.uint64]


def mix(words: Fingerprints) -> Fingerprints:
    """Steele, Lea and Flood's SplitMix64 output function: a bijection of 64-bit words after which every bit depends on
    every bit of the input. Any shape; the result is a new array."""
    mixed = words + numpy.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> numpy.uint64(30)
    mixed *= numpy.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> numpy.uint64(27)
    mixed *= numpy.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> numpy.uint64(31)
    return mixed


def fingerprint(columns: NDArray[numpy.integer]) -> Fingerprints:
    """[B, K] integers -> [B]: a fingerprint of each row as a sequence, so that order counts. K = 0 gives zeros."""
    found: Fingerprints = numpy.zeros(len(columns), numpy.uint64)
    for column in columns.T.astype(numpy.uint64):
        found = mix(found + column)
    return found


def fingerprint_ragged(flat: NDArray[numpy.integer], lengths: NDArray[numpy.int64]) -> Fingerprints:
    """[rows] fingerprints of rows of tokens that lie one after the other in ``flat``; a row may be empty. Equal rows
    have equal ones, and others differ but for one pair in 2^64."""
    ends = numpy.cumsum(lengths)
    places = numpy.arange(len(flat), dtype=numpy.int64) - numpy.repeat(ends - lengths, lengths)
    # Distinct multiples of an odd number are distinct 64-bit words.
    words = mix(mix((places + 1).astype(numpy.uint64)) + flat.astype(numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15))
    sums = numpy.concatenate((numpy.zeros(1, numpy.uint64), numpy.cumsum(words, dtype=numpy.uint64)))
    return mix(sums[ends] - sums[ends - lengths] + lengths.astype(numpy.uint64))


def one_in_eight(identity: Fingerprints) -> NDArray[numpy.bool_]:
    """[B] uint64 -> [B] bool: an even choice of one fingerprint in eight, the same one always."""
    # Mixed again, so that the choice is uniform even where a task's fingerprints are not.
    chosen: NDArray[numpy.bool_] = mix(identity) >> numpy.uint64(61) == 0
    return chosen
