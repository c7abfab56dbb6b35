"""Greedy decoding on a backbone's incremental interface."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.backbones.base import Backbone


def greedy(backbone: Backbone, prompt: Tensor, n: int) -> Tensor:
    """[B, P] -> [B, n]: the likeliest token at every step, the prompt read once."""
    if n == 0:
        return prompt[:, :0]
    hidden, state = backbone.start(backbone.embed(prompt), room=n - 1)
    chosen = [backbone.logits(hidden).argmax(-1)]
    while len(chosen) < n:
        hidden, state = backbone.step(backbone.embed(chosen[-1]), state)
        chosen.append(backbone.logits(hidden).argmax(-1))
    return torch.stack(chosen, 1)
