"""Reversed targets: teacher forcing from the answer's last token to its first. The positive control.

On path-star the first token is then the goal, which the prompt names, and every later one its only predecessor: no
decision is left. Where this does not solve a task, budget or network are at fault and no other result means anything.

Family: the failure and the control.
Source: Bachmann & Nagarajan 2024, arXiv 2403.06963.
Loss: next-token's, on answers that are flipped in place.
Decoding: from the last token to the first, then turned round, as ``forced`` is.
Dropped: nothing.
Drawing:
    fed                    p1 p2 p3 a4 a3 a2
    next token (reversed)  . . a4 a3 a2 a1
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.next_token import NextToken


def mirrored_columns(batch: Batch) -> Tensor:
    """[B, T]: the column that each column changes places with where every answer is turned round in its place."""
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    start, end = batch.prompt_len[:, None], (batch.prompt_len + batch.answer_len)[:, None]
    return torch.where(batch.in_answer(), start + end - 1 - columns, columns)


def flip_answers(batch: Batch) -> Batch:
    """The batch with every answer in reversed order in its place; prompts and padding stay."""
    return dataclasses.replace(batch, tokens=batch.tokens.gather(1, mirrored_columns(batch)))


@objectives.register("reversed")
class Reversed(NextToken):
    """Teacher forcing from the last answer token to the first."""

    summary = "teacher forcing on the reversed answer, last token first: the positive control"
    recordable = True
    order = "backward"
    usage = NextToken.usage.replace("left to right", "the last to the first") + ".flip(1)"

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        out = super().loss(flip_answers(batch), rng)
        per_token = flip_answers(dataclasses.replace(batch, tokens=out.per_token)).tokens
        return LossOut(out.total, {"reversed": out.total}, per_token)

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return super().generate(prompt, n).flip(1)

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        backwards = super().sample(prompt, n, temperature, rng)
        return None if backwards is None else backwards.flip(1)

    def forced(self, batch: Batch) -> Tensor:
        return super().forced(flip_answers(batch)).flip(1)
