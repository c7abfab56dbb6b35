"""Diagnostics: one file each, found by import."""

from foresee.diagnostics.base import Diagnostic, Row, Rows, Subject, diagnostics

__all__ = ["Diagnostic", "Row", "Rows", "Subject", "diagnostics"]
