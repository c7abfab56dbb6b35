"""foresee: where next-token training fails to look ahead, why, and which training objective repairs it."""

from __future__ import annotations

from foresee.api import backbone, load, objective, study, task, train
from foresee.core.errors import ForeseeError, RequestError

__version__ = "0.1.0"

__all__ = ["ForeseeError", "RequestError", "__version__", "backbone", "load", "objective", "study", "task", "train"]
