"""Runs and studies in, one page out: ``report`` and, for a README, ``write_picture``.

The module is called as its function ``report``: whatever imports it becomes ``foresee.report``, which is that word.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from foresee.report.page import report
from foresee.report.picture import write_picture

__all__ = ["report", "write_picture"]


class _Report(ModuleType):
    def __call__(self, *about: Any, **options: Any) -> Path:
        return report(*about, **options)


sys.modules[__name__].__class__ = _Report
