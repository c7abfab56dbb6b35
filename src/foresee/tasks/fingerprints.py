"""Fingerprints of problems in which order makes no difference, for ``Task.identity``."""

from __future__ import annotations

from typing import Any

import numpy
from numpy.typing import NDArray

from foresee.core.fingerprints import Fingerprints, mix


def of_set(values: NDArray[Any]) -> Fingerprints:
    """[..., K] numbers from 0 up, or fingerprints -> [...] uint64 that is the same for every order of them. Numbers
    that occur twice count twice."""
    return numpy.asarray(mix(values.astype(numpy.uint64)).sum(axis=-1, dtype=numpy.uint64))
