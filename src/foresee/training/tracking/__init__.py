"""Mirrors of runs in other people's tools. A run's own files stay the record; a mirror only repeats them."""

from foresee.training.tracking.base import Tracked, Tracker, tracked

__all__ = ["Tracked", "Tracker", "tracked"]
