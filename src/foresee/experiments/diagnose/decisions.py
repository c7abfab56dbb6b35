"""Decision tokens: those that stay hard with the prefix shown, while what follows is easy only because it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foresee.experiments.diagnose.interval import ratio

HARD = 0.35
"""Nats from which on a token is hard though the true tokens before it are shown: the truth gets less than 0.70."""
EASY = 0.15
"""Nats up to which tokens are easy on average: the truth gets 0.86 or more (geometric mean)."""
GIVEN = 0.1
"""Nats a token by which what is shown must help for it to count as given away. Where there are two symbols a token is
worth 0.69 nats at most, and a hidden model that knows half of what follows pays little more than a tenth."""
FEWEST = 20
"""Examples from which on a position is judged."""


@dataclass(frozen=True)
class Flags:
    """[S, E, A] bool: which tokens are hard, and which of them are decisions, for each seed."""

    hard: Tensor
    decision: Tensor


def flag(shown: Tensor, hidden: Tensor, mask: Tensor) -> Flags:
    """Judges every token by its losses with the truth ``shown`` and ``hidden`` [S, E, A] (nats).

    A token is *hard* where ``shown`` is at least ``HARD``. What *follows* it are the tokens up to the next hard one, or
    to the end. It is a *decision* where something follows that is easy (``shown`` at most ``EASY`` on average), and
    either that is so only because it is shown (``hidden`` - ``shown`` at least ``GIVEN`` on average over what follows),
    or the model that sees no earlier token knows this very token better (``shown`` - ``hidden`` at least ``GIVEN``).
    The second is what is left to see where that model has learned the decision, and with it all that follows.
    """
    hard = (shown >= HARD) & mask
    count, easy, given = (torch.zeros(shown.shape[:2]) for _ in range(3))
    decision = torch.zeros_like(hard)
    for place in range(shown.shape[2] - 1, -1, -1):
        follows = count > 0
        share = count.clamp(min=1)
        is_easy = follows & (easy / share <= EASY)
        told = (given / share >= GIVEN) | (shown[:, :, place] - hidden[:, :, place] >= GIVEN)
        decision[:, :, place] = hard[:, :, place] & is_easy & told
        here = mask[:, place].float()
        count, easy, given = (
            torch.where(hard[:, :, place], torch.zeros_like(total), total + here * value)
            for total, value in (
                (count, torch.ones_like(count)),
                (easy, shown[:, :, place]),
                (given, hidden[:, :, place] - shown[:, :, place]),
            )
        )
    return Flags(hard, decision)


def positions(shown: Tensor, hidden: Tensor, mask: Tensor) -> list[dict[str, Any]]:
    """Decision positions, by the same rule on means over examples instead of single tokens, with intervals.

    A position is *hard* where the low end of ``shown`` is at least ``HARD``; what follows it are the positions up to
    the next hard one. The mean over what follows must be ``EASY`` by its high end, and what is given there (or the
    hidden model's lead at the position itself) at least ``GIVEN`` by its low end. Positions count from 0.
    """
    places = [place for place in range(shown.shape[2]) if int(mask[:, place].sum()) >= FEWEST]
    rows = {place: ratio(shown[:, :, place] * mask[:, place], mask[:, place]) for place in places}
    hard = [place for place, row in rows.items() if row is not None and row["low"] >= HARD]
    found = []
    for number, place in enumerate(hard):
        end = hard[number + 1] if number + 1 < len(hard) else shown.shape[2]
        after = mask[:, place + 1 : end].float()
        if not float(after.sum()):
            continue
        counts = after.sum(1)
        easy = ratio((shown[:, :, place + 1 : end] * after).sum(2), counts)
        given = ratio(((hidden - shown)[:, :, place + 1 : end] * after).sum(2), counts)
        lead = ratio((shown - hidden)[:, :, place] * mask[:, place], mask[:, place])
        assert easy is not None
        assert given is not None
        assert lead is not None
        if easy["high"] <= EASY and (given["low"] >= GIVEN or lead["low"] >= GIVEN):
            found.append({"position": place, "shown": rows[place], "follows": easy, "given": given, "lead": lead})
    return found
