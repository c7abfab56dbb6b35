"""Tasks: one file each, found by import."""

from foresee.tasks.base import Task, tasks

__all__ = ["Task", "tasks"]
