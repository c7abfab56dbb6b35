"""Published results beside measured ones: a study is one file that says what to run and what to compare it with."""

from __future__ import annotations

from foresee.experiments.studies.base import Cell, Scale, Study, studies

__all__ = ["Cell", "Scale", "Study", "studies"]
