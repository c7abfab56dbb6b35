"""Decision tokens, which stay hard with the prefix shown while what follows is easy only because it is shown; and
losses by position and by kind of token.

``forced`` are next-token's losses [S, E, A] (nats) with the true tokens before each shown, ``hidden`` those of
teacherless, from the prompt alone; ``mask`` [E, A] says which places a response has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.experiments.diagnose.measure import Family, Row, ratio, share
from foresee.tasks.base import Task

HARD = 0.35
"""Nats from which on a token is hard though the true tokens before it are shown: the truth gets less than 0.70."""
EASY = 0.15
"""Nats up to which tokens are easy on average: the truth gets 0.86 or more (geometric mean)."""
GIVEN = 0.1
"""Nats a token by which what is shown must help for it to count as given away. Where there are two symbols a token is
worth 0.69 nats at most, and a hidden model that knows half of what follows pays little more than a tenth."""
FEWEST = 20
"""Examples from which on a position is judged."""

ORIGINS = ("in the prompt", "earlier in the response", "in neither", "end")
"""Of a token, the first that holds, but ``end`` (the symbol that closes a response) before all: it occurs in the
prompt; not there, but among the true tokens before it in the response; nowhere before."""
SHAPES = ("digits", "letters", "white space", "marks", "mixed", "end")
"""Of a token's symbol without the marks that tokenizers put for a space before it."""
WORD_STARTS = ("\u0120", "\u2581", "##")


@dataclass(frozen=True)
class Flags:
    """[S, E, A] bool: which tokens are hard, and which of them are decisions, for each seed."""

    hard: Tensor
    decision: Tensor


def flag_tokens(forced: Tensor, hidden: Tensor, mask: Tensor) -> Flags:
    """Judges every token by its losses.

    A token is *hard* where ``forced`` is at least ``HARD``. What *follows* it are the tokens up to the next hard one,
    or to the end. It is a *decision* where something follows that is easy (``forced`` at most ``EASY`` on average), and
    either that is so only because it is shown (``hidden`` - ``forced`` at least ``GIVEN`` on average over what
    follows), or the model that sees no earlier token knows this very token better (``forced`` - ``hidden`` at least
    ``GIVEN``). The second is what is left to see where that model has learned the decision, and with it what follows.
    """
    hard = (forced >= HARD) & mask
    count, easy, given = (torch.zeros(forced.shape[:2]) for _ in range(3))
    decision = torch.zeros_like(hard)
    for place in range(forced.shape[2] - 1, -1, -1):
        follows = count.clamp(min=1)
        is_easy = (count > 0) & (easy / follows <= EASY)
        is_given = (given / follows >= GIVEN) | (forced[:, :, place] - hidden[:, :, place] >= GIVEN)
        decision[:, :, place] = hard[:, :, place] & is_easy & is_given
        here = mask[:, place].float()
        count, easy, given = (
            torch.where(hard[:, :, place], torch.zeros_like(total), total + here * value)
            for total, value in (
                (count, torch.ones_like(count)),
                (easy, forced[:, :, place]),
                (given, hidden[:, :, place] - forced[:, :, place]),
            )
        )
    return Flags(hard, decision)


def find_positions(forced: Tensor, hidden: Tensor, mask: Tensor) -> list[Row]:
    """Decision positions, by the same rule on means over examples instead of single tokens, with intervals.

    A position is *hard* where the low end of ``forced`` is at least ``HARD``; what follows it are the positions up to
    the next hard one. The mean over what follows must be ``EASY`` by its high end, and what is given there (or the
    hidden model's lead at the position itself) at least ``GIVEN`` by its low end. Positions count from 0.
    """
    places = [place for place in range(forced.shape[2]) if int(mask[:, place].sum()) >= FEWEST]
    rows = {place: ratio(forced[:, :, place] * mask[:, place], mask[:, place]) for place in places}
    hard = [place for place, row in rows.items() if row is not None and row["low"] >= HARD]
    found = []
    for place, end in zip(hard, [*hard[1:], forced.shape[2]], strict=False):
        after = mask[:, place + 1 : end].float()
        counts = after.sum(1)
        easy = ratio((forced[:, :, place + 1 : end] * after).sum(2), counts)
        given = ratio(((hidden - forced)[:, :, place + 1 : end] * after).sum(2), counts)
        lead = ratio((forced - hidden)[:, :, place] * mask[:, place], mask[:, place])
        if easy is None or given is None or lead is None:  # nothing follows
            continue
        if easy["high"] <= EASY and (given["low"] >= GIVEN or lead["low"] >= GIVEN):
            found.append({"position": place, "shown": rows[place], "follows": easy, "given": given, "lead": lead})
    return found


def origins(batch: Batch, end: int | None) -> Tensor:
    """[E, A] places in ``ORIGINS``; -1 beyond a response."""
    answers, mask = batch.padded_answers(), batch.answer_mask()
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    prompts = batch.tokens.masked_fill(columns >= batch.prompt_len[:, None], -2)
    found = torch.full(answers.shape, 2, dtype=torch.int64, device=answers.device)
    for place in range(answers.shape[1]):
        token = answers[:, place : place + 1]
        found[(answers[:, :place] == token).any(1), place] = 1
        found[(prompts == token).any(1), place] = 0
    if end is not None:
        found[answers == end] = 3
    return found.masked_fill(~mask, -1)


def shapes(batch: Batch, task: Task) -> Tensor:
    """[E, A] places in ``SHAPES``; -1 beyond a response."""
    answers = batch.padded_answers()
    table = torch.tensor([SHAPES.index(shape_of(symbol)) for symbol in task.vocab], device=answers.device)
    if task.end is not None:
        table[task.end] = SHAPES.index("end")
    return table[answers.clamp(min=0)].masked_fill(~batch.answer_mask(), -1)


def shape_of(symbol: str) -> str:
    """The one of ``SHAPES`` that a symbol has."""
    bare = symbol
    for start in WORD_STARTS:
        bare = bare.removeprefix(start) or bare
    if not bare.strip() or bare in WORD_STARTS:
        return "white space"
    if bare.isdigit():
        return "digits"
    if bare.isalpha():
        return "letters"
    return "mixed" if any(letter.isalnum() for letter in bare) else "marks"


def tabulate(
    forced: Tensor, hidden: Tensor, decision: Tensor, classes: Tensor, key: str, names: Sequence[str] | None = None
) -> list[Row]:
    """A row for each class of tokens that occurs: both losses, what is given away (their difference), and the share of
    tokens that are ``decision`` [S, E, A]. ``classes`` [E, A] are places in ``names``, or numbers from 0 that stand for
    themselves; the class stands under ``key``."""
    rows = []
    for place in range(int(classes.max()) + 1):
        picked = (classes == place).float()
        counts = picked.sum(1)
        if not float(counts.sum()):
            continue
        means = {
            name: ratio((values * picked).sum(2), counts)
            for name, values in (("shown", forced), ("hidden", hidden), ("given", hidden - forced))
        }
        decisions = share((decision.float() * picked).sum(2), counts)
        rows.append(
            {key: place if names is None else names[place], "tokens": int(counts.sum()),
             "examples": int((counts > 0).sum()), **means, "decision": decisions}
        )  # fmt: skip
    return rows


def number_places(mask: Tensor, *, from_end: bool = False) -> Tensor:
    """[E, A]: each place of a response counted from 0 at its start, or its end; -1 beyond it."""
    places = torch.arange(mask.shape[1]).expand(mask.shape)
    return (mask.sum(1, keepdim=True) - 1 - places if from_end else places).masked_fill(~mask, -1)


def absorbed(forced: Tensor, hidden: Tensor) -> Row | None:
    """The share of supervision that shown tokens absorb: (sum of ``hidden`` - sum of ``forced``) / sum of ``hidden``,
    over all tokens of the response; None where the hidden loss is zero.

    0: showing earlier tokens gives nothing away. Near 1: what is left of the training signal sits in few tokens. Below
    0: the model that sees no earlier token has learned more. It is a statement about these two trained models: the
    hidden loss is that of a model after so many steps, not of the best one.
    """
    return ratio((hidden - forced).sum(2), hidden.sum(2))


def accuracy_by_position(forward: Family, mask: Tensor) -> list[Row]:
    """Forced and free-running accuracy of next-token at each position, counted from 0."""
    right, free = forward.stack("right").float(), forward.stack("free").float()
    found = []
    for place in range(mask.shape[1]):
        here = mask[:, place]
        rows = {"forced": share(right[:, :, place] * here, here), "free": share(free[:, :, place] * here, here)}
        if rows["forced"] is not None:
            found.append({"position": place, **rows})
    return found
