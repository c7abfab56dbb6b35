"""Tasks: one file each, found by import."""

from foresee.tasks.base import Task, WrongTurn, tasks
from foresee.tasks.text import TextForm

__all__ = ["Task", "TextForm", "WrongTurn", "tasks"]
