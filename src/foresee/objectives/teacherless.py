"""Teacherless training: every answer token is predicted in advance, from the prompt and dummies alone.

Bachmann & Nagarajan 2024 (after Monea et al. 2023): the same network, targets and causal mask as next-token, but the
answer's input tokens are replaced by one dummy symbol ``$``, so that only positions tell them apart and no revealed
token feeds the cheat. Decoding is one pass over prompt and dummies. ``=`` is prompt and is not replaced: it predicts
the first answer token.

``hybrid=s`` (Nagarajan et al. 2025, "Roll the dice") leaves a share s of each batch's rows teacher-forced. Deviation:
they mix whole batches or copies of samples in fixed ratios; here rows are drawn independently. Decoding stays one pass.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from foresee.backbones.base import Backbone
from foresee.batch import Batch
from foresee.errors import RequestError
from foresee.objectives.base import LossOut, Objective, objectives
from foresee.objectives.next_token import answer_loss, teacher_forced
from foresee.vocabulary import Vocabulary

DUMMY = "$"


@objectives.register("teacherless")
class Teacherless(Objective):
    """Options: ``hybrid``, the share of teacher-forced rows (0 to below 1)."""

    summary = "predict the whole answer in one pass from the prompt and dummy tokens"
    symbols = (DUMMY,)
    order: ClassVar[Literal["forward", "backward", "parallel"]] = "parallel"

    def __init__(
        self, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator, *, hybrid: float = 0.0
    ) -> None:
        super().__init__(backbone, vocab)
        if not 0.0 <= hybrid < 1.0:
            raise RequestError(f"teacherless: hybrid={hybrid} must be a share from 0 to below 1")
        self.hybrid = hybrid
        self.dummy = vocab.token(DUMMY)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        hide = batch.in_answer()
        if self.hybrid:
            draws = torch.rand(len(batch), 1, generator=rng, device=rng.device).to(hide.device)
            hide = hide & (draws >= self.hybrid)
        inputs = batch.tokens.masked_fill(hide, self.dummy)
        return answer_loss(teacher_forced(self.backbone, inputs, batch), batch, "teacherless")

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        if n == 0:
            return prompt[:, :0]
        inputs = torch.nn.functional.pad(prompt, (0, n - 1), value=self.dummy)
        first = prompt.shape[1] - 1
        hidden = self.backbone(self.backbone.embed(inputs), keep=slice(first, first + n))
        return self.backbone.logits(hidden).argmax(-1)

    def forced(self, batch: Batch) -> None:
        return None
