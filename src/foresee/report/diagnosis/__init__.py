"""The page of a diagnosis."""

from __future__ import annotations

from foresee.report.diagnosis.page import write_page

__all__ = ["write_page"]
