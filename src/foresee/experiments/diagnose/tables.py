"""Losses with the truth shown and hidden, by position and by kind of token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foresee.experiments.diagnose.interval import ratio, share
from foresee.experiments.diagnose.measured import Family

Row = dict[str, Any]


def row_of(shown: Tensor, hidden: Tensor, decision: Tensor, chosen: Tensor) -> Row | None:
    """``shown`` and ``hidden`` losses [S, E, A] over the tokens that ``chosen`` [E, A] picks, what is given away (their
    difference), and the share of those tokens that are ``decision`` [S, E, A]; None where it picks none."""
    picked = chosen.float()
    counts = picked.sum(1)
    parts = {"shown": shown, "hidden": hidden, "given": hidden - shown}
    rows = {name: ratio((values * picked).sum(2), counts) for name, values in parts.items()}
    if rows["shown"] is None:
        return None
    rows["decision"] = share((decision.float() * picked).sum(2), counts)
    return {"tokens": int(counts.sum()), "examples": int((counts > 0).sum()), **rows}


def by_position(shown: Tensor, hidden: Tensor, decision: Tensor, mask: Tensor) -> list[Row]:
    """A row for each response position from the start, counted from 0, that some response has."""
    found = []
    for place in range(mask.shape[1]):
        chosen = torch.zeros_like(mask)
        chosen[:, place] = mask[:, place]
        row = row_of(shown, hidden, decision, chosen)
        if row is not None:
            found.append({"position": place, **row})
    return found


def by_position_from_the_end(shown: Tensor, hidden: Tensor, decision: Tensor, mask: Tensor) -> list[Row]:
    """The same from the end: 0 is a response's last token."""
    lengths = mask.sum(1)
    places = torch.arange(mask.shape[1])
    found = []
    for back in range(mask.shape[1]):
        chosen = mask & (places == (lengths - 1 - back)[:, None])
        row = row_of(shown, hidden, decision, chosen)
        if row is not None:
            found.append({"from_end": back, **row})
    return found


def by_class(shown: Tensor, hidden: Tensor, decision: Tensor, classes: Tensor, names: Sequence[str]) -> list[Row]:
    """A row for each class of tokens that occurs; ``classes`` [E, A] are places in ``names``."""
    found = []
    for place, name in enumerate(names):
        row = row_of(shown, hidden, decision, classes == place)
        if row is not None:
            found.append({"class": name, **row})
    return found


def absorbed(shown: Tensor, hidden: Tensor) -> Row | None:
    """The share of supervision that shown tokens absorb: (sum of ``hidden`` - sum of ``shown``) / sum of ``hidden``,
    sums over all tokens of the response, with an interval; None where the hidden loss is zero.

    0: showing earlier tokens gives nothing away. Near 1: what is left of the training signal sits in few tokens. Below
    0: the model that sees no earlier token has learned more. It is a statement about these two trained models: the
    hidden loss is that of a model after so many steps, not of the best one.
    """
    return ratio((hidden - shown).sum(2), hidden.sum(2))


def accuracy(forward: Family, mask: Tensor) -> list[Row]:
    """Forced and free-running accuracy of next-token at each position, counted from 0."""
    right = torch.stack([each.right for each in forward.measured]).float()
    free = torch.stack([each.free for each in forward.measured]).float()
    found = []
    for place in range(mask.shape[1]):
        here = mask[:, place]
        rows = {"forced": share(right[:, :, place] * here, here), "free": share(free[:, :, place] * here, here)}
        if rows["forced"] is not None:
            found.append({"position": place, **rows})
    return found
