"""Next-token prediction by teacher forcing: the objective whose failure this project is about.

Each answer token is predicted from the prompt and the *true* answer tokens before it. On path-star every token after
the branch is then one edge away from the token just read. The loss of the branch token alone is left to teach planning,
and it does not.

Family: the failure and the control.
Source: Bachmann & Nagarajan 2024, arXiv 2403.06963.
Loss: ``-sum_i log p(r_i | prompt, r_<i)``, averaged over the batch's answer tokens; prompts are no targets. The
prompt's last position predicts the first answer token.
Decoding: one token at a time, greedily.
Dropped: nothing.
Drawing:
    fed         p1 p2 p3 a1 a2 a3
    next token  . . a1 a2 a3 a4
"""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.objectives.base import LossOut, Objective, objectives
from foresee.objectives.decoding import choose_at, decode, decode_greedily
from foresee.objectives.teacher_forcing import answer_log_probs, answer_logits, answer_loss


@objectives.register("next-token")
class NextToken(Objective):
    """Teacher forcing, greedy left-to-right decoding."""

    summary = "predict each answer token from the true tokens before it (teacher forcing)"
    batchable = True
    recordable = True

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        return answer_loss(answer_logits(self.backbone, batch.tokens, batch), batch, "next-token")

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return decode_greedily(self.backbone, prompt, n)

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return decode(self.backbone, self.backbone.embed(prompt), n, choose_at(temperature, rng))

    def forced(self, batch: Batch) -> Tensor:
        return answer_log_probs(answer_logits(self.backbone, batch.tokens, batch), batch)
