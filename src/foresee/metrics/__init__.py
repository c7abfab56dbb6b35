"""Diagnostics: one file each, found by import."""

from foresee.metrics.base import Metric, Row, Rows, Subject, metrics

__all__ = ["Metric", "Row", "Rows", "Subject", "metrics"]
