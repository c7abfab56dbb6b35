"""Backbones: one file each, found by import."""

from foresee.backbones.base import Attend, Backbone, Cap, backbones

__all__ = ["Attend", "Backbone", "Cap", "backbones"]
