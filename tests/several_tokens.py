"""What the tests of the objectives that predict several tokens at a position share."""

from __future__ import annotations

from typing import Any

import torch
from support import numbered, random_batch, right_padded, scramble, transformer
from torch import Tensor

from foresee.core import spec
from foresee.core.batch import Batch
from foresee.core.seeds import torch_stream
from foresee.objectives import Objective, objectives

KINDS: list[dict[str, Any]] = [
    {},
    {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "tied": False},
]
"""Options of the Transformer beneath."""

AFTER_TOKEN = torch.tensor(
    [[1 / 4, 3 / 4], [2 / 3, 1 / 3], [1 / 5, 4 / 5], [3 / 7, 4 / 7], [1 / 9, 8 / 9], [2 / 11, 9 / 11]]
)
"""Probabilities of a and b. Rows 0 and 1: next-token's after reading a and b; the others are for further tokens."""


def scrambled(objective: str, vocab_size: int = 13, **kind: Any) -> Objective:
    """An objective on a small Transformer."""
    chosen = spec.resolve(objectives, objective)
    made = chosen.build(transformer(vocab_size, **kind), numbered(vocab_size), torch_stream("t"))
    scramble(made)
    return made


def ragged_batches(padding: int) -> list[tuple[Batch, list[Batch]]]:
    """Rows of several lengths in one batch, and one of them alone, each with its rows."""
    shapes = [(3, 4), (6, 2), (4, 4), (3, 1), (1, 3)]
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate(shapes)]
    return [(right_padded(rows, padding), rows), (rows[1], rows[1:2])]


@torch.no_grad()
def parts_of_loss(made: Objective, batch: Batch) -> dict[str, float]:
    return {name: part.item() for name, part in made.loss(batch, torch_stream("t")).parts.items()}


def predictions(made: Objective, batch: Batch) -> list[Tensor]:
    """Logits [B, K, V] of each part of the loss, in its order; the last is of the last column."""
    seen: list[Tensor] = []
    logits = made.backbone.logits

    def spy(hidden: Tensor) -> Tensor:
        seen.append(logits(hidden).detach())
        return seen[-1]

    made.backbone.logits = spy  # type: ignore[method-assign]  # removed again below
    try:
        made.loss(batch, torch_stream("t"))
    finally:
        del made.backbone.logits
    return seen
