"""Run directories in, one page out: ``write_report`` and, for a README, ``write_picture``."""

from foresee.report.page import write_report
from foresee.report.picture import write_picture

__all__ = ["write_picture", "write_report"]
