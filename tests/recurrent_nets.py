"""Small Mamba and Mamba-2 networks that several test files share."""

from __future__ import annotations

from typing import Any

from support import numbered

from foresee.backbones.mamba import Mamba, Mamba2
from foresee.core import seeds

WIDTH = 32


def mamba(vocab_size: int = 13, seed: int = 0, **options: Any) -> Mamba:
    """Two layers of width 32 unless told otherwise."""
    shape = {"layers": 2, "width": WIDTH, "state": 8}
    return Mamba(numbered(vocab_size), seeds.torch_stream("test weights", seed), **{**shape, **options})


def mamba2(vocab_size: int = 13, seed: int = 0, **options: Any) -> Mamba2:
    """Two layers of width 32 and four heads unless told otherwise."""
    shape = {"layers": 2, "width": WIDTH, "state": 8, "head_width": 16}
    return Mamba2(numbered(vocab_size), seeds.torch_stream("test weights", seed), **{**shape, **options})
