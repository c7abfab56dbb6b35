"""Run directories and studies in, one page out: ``write_report`` and, for a README, ``write_picture``."""

from __future__ import annotations

from foresee.report.page import write_report
from foresee.report.picture import write_picture

__all__ = ["write_picture", "write_report"]
