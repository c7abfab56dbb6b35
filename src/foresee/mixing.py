"""A mixing of 64-bit words, for fingerprints of problems."""

from __future__ import annotations

import numpy
from numpy.typing import NDArray

Words = NDArray[numpy.uint64]


def mix(words: Words) -> Words:
    """Steele, Lea and Flood's SplitMix64 output function: a bijection of 64-bit words after which every bit depends on
    every bit of the input. Any shape; the result is a new array."""
    mixed = words + numpy.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> numpy.uint64(30)
    mixed *= numpy.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> numpy.uint64(27)
    mixed *= numpy.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> numpy.uint64(31)
    return mixed
