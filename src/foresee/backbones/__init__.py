"""Backbones, the sequence models: one file or folder each, found by import."""

from foresee.backbones.base import Backbone, backbones
from foresee.backbones.capabilities import Attend, Cap

__all__ = ["Attend", "Backbone", "Cap", "backbones"]
