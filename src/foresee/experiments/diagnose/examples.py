"""Held-out examples token by token, for the page."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.experiments.diagnose.decisions import Flags
from foresee.tasks.base import Task

SHOWN = 8
LONGEST_PROMPT = 2000
"""Characters of a prompt that are shown."""
BETWEEN = ", \t\r\n"
"""What may stand between the tokens of a text without being one."""


@dataclass(frozen=True)
class Token:
    """A token of a response; losses are means over seeds, in nats. ``decision`` and ``hard`` hold for most seeds."""

    before: str
    """What the response's text has between the last token and this one: white space, or commas."""
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
                gap,
                symbol,
                round(float(losses[row, place]), 4),
                round(float(blind[row, place]), 4),
                bool(flags.hard[:, row, place].float().mean() > 0.5),
                bool(decision[row, place] > 0.5),
            )
            for place, (gap, symbol) in enumerate(zip(gaps(task.write_answer(answer), symbols), symbols, strict=True))
        )
        found.append(Shown(task.write_prompt(prompt)[:LONGEST_PROMPT], tokens))
    return found


def gaps(text: str, symbols: list[str]) -> list[str]:
    """What stands before each symbol in a text that is made of them; nothing before those that it does not show, as
    ends of responses and the bytes of a longer character."""
    found, reached = [], 0
    for symbol in symbols:
        at = text.find(symbol, reached)
        known = at >= 0 and not text[reached:at].strip(BETWEEN)
        found.append(text[reached:at] if known else "")
        reached = at + len(symbol) if known else reached
    return found
