"""Fingerprints of problems in which order makes no difference, for ``Task.identity``."""

from __future__ import annotations

from typing import Any

import numpy
from numpy.typing import NDArray

from foresee.mixing import Words, mix


def of_set(values: NDArray[Any]) -> Words:
    """[..., K] numbers from 0 up, or fingerprints -> [...] uint64 that is the same for every order of them. Numbers
    that occur twice count twice."""
    return numpy.asarray(mix(values.astype(numpy.uint64)).sum(axis=-1, dtype=numpy.uint64))
