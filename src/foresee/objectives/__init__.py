"""Objectives: one file each, found by import."""

from foresee.objectives.base import LossOut, Objective, objectives
from foresee.objectives.teacher_forcing import answer_logits, answer_loss

__all__ = ["LossOut", "Objective", "answer_logits", "answer_loss", "objectives"]
