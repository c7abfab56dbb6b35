"""Objectives: one file each, found by import."""

from foresee.objectives.base import LossOut, Objective, objectives

__all__ = ["LossOut", "Objective", "objectives"]
