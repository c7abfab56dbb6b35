"""Decision tokens, which stay hard with the prefix shown while what follows is easy only because it is shown; and
losses by position and by kind of token.

S seeds, E held-out examples, A places of the longest response; losses are in nats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.experiments.diagnose.measure import Estimate, Family, ratio, share
from foresee.tasks.base import Task

HARD = 0.35
"""Nats from which on a token is hard though the true tokens before it are shown: the truth gets less than 0.70."""
EASY = 0.15
"""Nats up to which tokens are easy on average: the truth gets 0.86 or more (geometric mean)."""
GIVEN = 0.1
"""Nats a token by which what is shown must help for it to count as given away. Where there are two symbols a token is
worth 0.69 nats at most, and a hidden model that knows half of what follows pays little more than a tenth."""
DECIDED, FEWEST = 0.2, 20
"""Share of responses in which a position must be a decision to be called one, and examples from which on it is judged.
Noise in a tenth of the labels, or slips in a twentieth, make single tokens look like decisions, but fewer."""

ORIGINS = ("in the prompt", "earlier in the response", "in neither", "end")
"""Of a token, the first that holds, but ``end`` (the symbol that closes a response) before all: it occurs in the
prompt; not there, but among the true tokens before it in the response; nowhere before."""
SHAPES = ("digits", "letters", "white space", "marks", "mixed", "end")
"""Of a token's symbol without the marks that tokenizers put for a space before it."""
WORD_STARTS = ("\u0120", "\u2581", "##")


@dataclass(frozen=True)
class TokenLosses:
    """Of every token: ``shown`` [S, E, A], next-token's with the true tokens before it shown; ``hidden`` [S, E, A],
    that of teacherless, from the prompt alone. ``mask`` [E, A] says which places a response has, ``problems`` [E] which
    examples belong together."""

    shown: Tensor
    hidden: Tensor
    mask: Tensor
    problems: Tensor

    @property
    def given(self) -> Tensor:
        """[S, E, A]: what the shown tokens give away of each."""
        return self.hidden - self.shown

    def mean_of_whole(self, values: Tensor) -> Estimate | None:
        """``ratio`` of the sums of ``values`` [S, E, A] over whole responses."""
        return ratio(values.sum(2), torch.ones(len(self.mask)), self.problems)


@dataclass(frozen=True)
class Flags:
    """[S, E, A] bool: which tokens are hard, and which of them are decisions, for each seed."""

    hard: Tensor
    decision: Tensor


def flag_tokens(losses: TokenLosses) -> Flags:
    """Judges every token by its losses.

    A token is *hard* where it is shown at a loss of at least ``HARD``. What *follows* it are the tokens up to the next
    hard one, or to the end. It is a *decision* where something follows that is easy (at most ``EASY`` on average), and
    either that is so only because it is shown (``given`` at least ``GIVEN`` on average over what follows), or the model
    that sees no earlier token knows this very token better by ``GIVEN``. The second is what is left to see where that
    model has learned the decision, and with it what follows.
    """
    shown, hard = losses.shown, (losses.shown >= HARD) & losses.mask
    count, easy, given = (torch.zeros(shown.shape[:2]) for _ in range(3))
    decision = torch.zeros_like(hard)
    for place in range(shown.shape[2] - 1, -1, -1):
        follows = count.clamp(min=1)
        is_easy = (count > 0) & (easy / follows <= EASY)
        is_given = (given / follows >= GIVEN) | (losses.given[:, :, place] <= -GIVEN)
        decision[:, :, place] = hard[:, :, place] & is_easy & is_given
        here = losses.mask[:, place].float()
        count, easy, given = (
            torch.where(hard[:, :, place], torch.zeros_like(total), total + here * value)
            for total, value in (
                (count, torch.ones_like(count)), (easy, shown[:, :, place]), (given, losses.given[:, :, place]),
            )
        )  # fmt: skip
    return Flags(hard, decision)


def find_positions(losses: TokenLosses, flags: Flags) -> list[Estimate]:
    """Decision positions, counted from 0: the rows of ``tabulate`` of those at which at least ``DECIDED`` of the
    responses that reach them (low end) have a decision token. Not by mean losses: where a part of the rows is noise,
    or another task, what follows a decision is not easy on average."""
    rows = tabulate(losses, flags.decision, number_places(losses.mask), "position")
    return [
        row for row in rows if row["examples"] >= FEWEST and row["decision"].get("low", 0.0) >= DECIDED
    ]  # fmt: skip


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
    losses: TokenLosses, decision: Tensor, classes: Tensor, key: str, names: Sequence[str] | None = None
) -> list[Estimate]:
    """A row for each class of tokens that occurs: both losses, what is given away (their difference), and the share of
    tokens that are ``decision`` [S, E, A]. ``classes`` [E, A] are places in ``names``, or numbers from 0 that stand for
    themselves; the class stands under ``key``."""
    rows = []
    for place in range(int(classes.max()) + 1):
        picked = (classes == place) & losses.mask
        if not picked.any():
            continue
        tokens = picked.float().sum(1)
        means = {
            name: ratio((getattr(losses, name) * picked).sum(2), tokens, losses.problems)
            for name in ("shown", "hidden", "given")
        }
        decisions = share((decision & picked).float().sum(2), tokens, losses.problems)
        rows.append(
            {key: place if names is None else names[place], "tokens": int(picked.sum()),
             "examples": int(picked.any(1).sum()), **means, "decision": decisions}
        )  # fmt: skip
    return rows


def number_places(mask: Tensor, *, from_end: bool = False) -> Tensor:
    """[E, A]: each place of a response counted from 0 at its start, or its end; -1 beyond it."""
    places = torch.arange(mask.shape[1]).expand(mask.shape)
    return (mask.sum(1, keepdim=True) - 1 - places if from_end else places).masked_fill(~mask, -1)


def absorbed(losses: TokenLosses) -> Estimate | None:
    """The share of supervision that shown tokens absorb: (sum of hidden - sum of shown) / sum of hidden losses, over
    all tokens of the response; None where the hidden loss is zero.

    0: showing earlier tokens gives nothing away. Near 1: what is left of the training signal sits in few tokens. Below
    0: the model that sees no earlier token has learned more. It is a statement about these two trained models: the
    hidden loss is that of a model after so many steps, not of the best one.
    """
    return ratio(losses.given.sum(2), losses.hidden.sum(2), losses.problems)


def accuracy_by_position(forward: Family, losses: TokenLosses) -> list[Estimate]:
    """Forced and free-running accuracy of next-token at each position, counted from 0."""
    right, free = forward.stack("right").float(), forward.stack("free").float()
    found = []
    for place, here in enumerate(losses.mask.unbind(1)):
        rows = {
            name: share(each[:, :, place] * here, here, losses.problems)
            for name, each in (("forced", right), ("free", free))
        }
        if rows["forced"] is not None:
            found.append({"position": place, **rows})
    return found
