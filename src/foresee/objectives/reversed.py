"""Reversed targets: teacher forcing on the answer written backwards. The positive control.

On path-star the first token is then the goal, and each later one is a look-up of the only predecessor, so no decision
is left to guess (Bachmann & Nagarajan 2024). The answer alone is flipped; ``generate`` and ``forced`` flip back, so
that everything downstream reads the task's own order.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import NextToken


def flipped(batch: Batch) -> Batch:
    """The batch with every answer written backwards in place; prompts and padding stay."""
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    start, end = batch.prompt_len[:, None], (batch.prompt_len + batch.answer_len)[:, None]
    mirrored = torch.where((columns >= start) & (columns < end), start + end - 1 - columns, columns)
    return dataclasses.replace(batch, tokens=batch.tokens.gather(1, mirrored))


@objectives.register("reversed")
class Reversed(NextToken):
    """Teacher forcing from the last answer token to the first."""

    summary = "teacher forcing on the answer written backwards: the positive control"
    order: ClassVar[Literal["forward", "backward", "parallel"]] = "backward"

    diagram = Diagram((Stream("p1 p2 p3 a4 a3 a2", (Lane("next token", "reversed", ". . a4 a3 a2 a1"),)),))
    explanation = Explanation(
        Family.BASELINE,
        "Teacher forcing on the answer written backwards. On path-star the first token is then the goal, which the "
        "prompt names, and every later one is its only predecessor: no decision is left. It is the positive control: "
        "where it does not solve a task, the budget or the network is at fault and no other result means anything.",
        f"Bachmann & Nagarajan 2024, {arxiv('2403.06963')}.",
        "One token at a time from the last to the first, and then turned round; nothing is dropped.",
    )

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        out = super().loss(flipped(batch), rng)
        per_token = flipped(dataclasses.replace(batch, tokens=out.per_token)).tokens
        return LossOut(out.total, {"reversed": out.total}, per_token)

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return super().generate(prompt, n).flip(1)

    def sampled(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        written = super().sampled(prompt, n, temperature, rng)
        return None if written is None else written.flip(1)

    def forced(self, batch: Batch) -> Tensor:
        return super().forced(flipped(batch)).flip(1)
