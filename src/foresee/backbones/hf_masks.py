"""Masks and positions in the form that models of the transformers library take them."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.backbones.base import Attend, Cap

MASKED = torch.finfo(torch.bfloat16).min
"""Added to the score of a key that must not be read. The library's own choice is the lowest finite number too, since
minus infinity over a whole row gives NaN; this one is finite in bfloat16 as well as in float32."""


def capabilities_used(attend: Attend, positions: Tensor | None) -> frozenset[Cap]:
    """What a model must have to read with this mask and these positions."""
    used = set() if positions is None else {Cap.POSITIONS}
    if isinstance(attend, Tensor):
        used.add(Cap.VISIBILITY)
    elif attend == "full":
        used.add(Cap.LOOKAHEAD)
    return frozenset(used)


def mask_and_positions(x: Tensor, attend: Attend, positions: Tensor | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """An additive mask [B, 1, T, T] of ``dtype`` and positions [B, T] for inputs x [B, T, D].

    Always both: positions without a mask of four axes may be read as documents packed into one row, and a bool mask
    hides nothing under the library's eager attention.
    """
    rows, length, _ = x.shape
    if isinstance(attend, Tensor):
        visible = attend
    else:
        visible = torch.ones(1, length, length, dtype=torch.bool, device=x.device)
        visible = visible if attend == "full" else visible.tril()
    mask = torch.zeros(visible.shape, dtype=dtype, device=x.device).masked_fill_(~visible, MASKED)
    places = torch.arange(length, device=x.device) if positions is None else positions
    return {
        "attention_mask": mask[:, None].expand(rows, 1, length, length),
        "position_ids": places.expand(rows, length),
    }
