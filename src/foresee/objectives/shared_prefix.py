"""Reading a prefix that several rows share once.

On tasks that put every goal of one graph into a batch, rows differ only after the graph, most of the prompt. Under a
causal mask the common columns have the same states in every row, so a group of rows becomes one row: the common
columns, then each row's own ones, which see the common ones and their own past, at the positions they would have had.
On G(2, 4) with both goals that is 29 positions for two rows instead of 48; what is computed is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Layout

NEEDED = frozenset({Cap.VISIBILITY, Cap.POSITIONS})


def can_share(backbone: Backbone, layout: Layout, rows: int) -> bool:
    """Whether the batch says that its rows share a prefix, and the backbone can make use of it."""
    return layout.group > 1 and layout.shared > 1 and rows % layout.group == 0 and backbone.has >= NEEDED


def states(backbone: Backbone, inputs: Tensor, layout: Layout) -> Tensor:
    """Final states [B, A, D] of columns ``layout.first - 1`` to ``layout.last - 2``, which predict the answer columns.

    ``inputs`` is [B, T] with T = ``layout.last - 1``, read causally; each group of rows is read as one row.
    """
    rows, length = inputs.shape
    # The last prompt column predicts the first answer token of each row, so it is never read in common.
    common, group = min(layout.shared, layout.first - 1), layout.group
    grouped = inputs.view(rows // group, group, length)
    own = length - common
    packed = torch.cat((grouped[:, 0, :common], grouped[:, :, common:].flatten(1)), 1)
    positions, visible = _places(common, own, group, inputs.device)
    hidden: Tensor = backbone(
        backbone.embed(packed), attend=visible, positions=positions, keep=slice(common, common + group * own)
    )
    return hidden.reshape(rows, own, -1)[:, layout.first - 1 - common :]


def _places(common: int, own: int, group: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions [T'] and who sees whom [1, T', T'] of packed rows, T' = common + group * own."""
    index = torch.arange(common + group * own, device=device)
    # Common columns belong to row -1, which everyone sees.
    row = torch.where(index < common, -1, (index - common) // own)
    positions = torch.where(index < common, index, common + (index - common) % own)
    same = (row[None, :] == row[:, None]) | (row[None, :] == -1)
    return positions, (same & (index[None, :] <= index[:, None]))[None]
