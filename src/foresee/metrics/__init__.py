"""Metrics: one file each, found by import; and what they are made with."""

from foresee.metrics.base import Metric, Row, Rows, Subject, metrics
from foresee.metrics.intervals import mean, rate, share

__all__ = ["Metric", "Row", "Rows", "Subject", "mean", "metrics", "rate", "share"]
