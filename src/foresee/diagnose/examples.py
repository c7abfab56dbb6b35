"""Held-out examples token by token, for the page."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foresee.batch import Batch
from foresee.diagnose.decisions import Flags
from foresee.tasks.base import Task

SHOWN = 8
LONGEST_PROMPT = 2000
"""Characters of a prompt that are shown."""


@dataclass(frozen=True)
class Token:
    """A token of a response; losses are means over seeds, in nats. ``decision`` and ``hard`` hold for most seeds."""

    text: str
    shown: float
    hidden: float
    hard: bool
    decision: bool


@dataclass(frozen=True)
class Shown:
    """A held-out example."""

    prompt: str
    tokens: tuple[Token, ...]


def choose(task: Task, batch: Batch, shown: Tensor, hidden: Tensor, flags: Flags, n: int = SHOWN) -> list[Shown]:
    """Examples with the most loss on decision tokens, at the most half of ``n``, then the first of the others."""
    decision = flags.decision.float().mean(0)
    weight = (decision * shown.mean(0)).sum(1)
    ranked = torch.argsort(weight, descending=True, stable=True).tolist()
    telling = [row for row in ranked if float(weight[row]) > 0][: n // 2]
    rest = [row for row in range(len(batch)) if row not in telling][: n - len(telling)]
    losses, blind = shown.mean(0), hidden.mean(0)
    pairs = list(batch.rows(torch.tensor(telling + rest, device=batch.tokens.device)).pairs())
    found = []
    for row, (prompt, answer) in zip(telling + rest, pairs, strict=True):
        symbols = task.vocab.decode(answer)
        tokens = tuple(
            Token(
                symbol,
                round(float(losses[row, place]), 4),
                round(float(blind[row, place]), 4),
                bool(flags.hard[:, row, place].float().mean() > 0.5),
                bool(decision[row, place] > 0.5),
            )
            for place, symbol in enumerate(symbols)
        )
        found.append(Shown(task.write_line(prompt, [])[:LONGEST_PROMPT], tokens))
    return found
