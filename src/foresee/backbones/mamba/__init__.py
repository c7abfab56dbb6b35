"""Mamba and Mamba-2 from scratch: what they share (``stack``), a file each, and their kernels."""

from foresee.backbones.mamba.mamba import Mamba
from foresee.backbones.mamba.mamba2 import Mamba2

__all__ = ["Mamba", "Mamba2"]
