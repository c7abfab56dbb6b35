"""Kinds of response tokens: where a token could be copied from, and what it looks like."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.tasks.base import Task

ORIGINS = ("in the prompt", "earlier in the response", "in neither", "end")
"""Of a token, the first that holds, but ``end`` (the symbol that closes a response) before all: it occurs in the
prompt; not there, but among the true tokens before it in the response; nowhere before."""

SHAPES = ("digits", "letters", "white space", "marks", "mixed", "end")
"""Of a token's symbol without the marks that tokenizers put for a space before it."""

WORD_STARTS = ("\u0120", "\u2581", "##")


def origins(batch: Batch, end: int | None) -> Tensor:
    """[E, A] places in ``ORIGINS``; -1 beyond a response."""
    answers, mask = batch.padded_answers(), batch.answer_mask()
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    prompts = batch.tokens.masked_fill(columns >= batch.prompt_len[:, None], -2)
    found = torch.full(answers.shape, 2, dtype=torch.int64, device=answers.device)
    for place in range(answers.shape[1]):
        token = answers[:, place : place + 1]
        earlier = (answers[:, :place] == token).any(1)
        found[:, place] = torch.where(earlier, 1, found[:, place])
        found[:, place] = torch.where((prompts == token).any(1), 0, found[:, place])
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
    """The place in ``SHAPES`` of a symbol, by name."""
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
