"""Teacherless training: the whole answer is predicted in advance, from the prompt and dummies alone.

Every answer token in the input is one dummy, ``$``, so that only positions tell them apart and nothing can be looked up
from the token before. ``=`` is prompt, stays, and predicts the first answer token.

Family: several tokens in advance.
Source: Bachmann & Nagarajan 2024, arXiv 2403.06963, after Monea et al. 2023; ``hybrid`` after Nagarajan et al. 2025
(Roll the dice).
Loss: next-token's, on these inputs.
Decoding: the whole answer in one pass, each token by itself.
Dropped: nothing.
Deviations: for ``hybrid`` the source mixes whole batches or copies of samples in fixed ratios, and decodes token by
token; here rows are drawn independently, and decoding is one pass as without it.
Drawing:
    fed                       p1 p2 p3 $ $ $
    next token (teacherless)  . . a1 a2 a3 a4
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, Objective, Trace, objectives
from foresee.objectives.decoding import Choose, choose_at, choose_likeliest
from foresee.objectives.teacher_forcing import answer_logits, answer_loss

DUMMY = "$"


@objectives.register("teacherless")
class Teacherless(Objective):
    """Every answer token from the prompt alone.

    Options:
        hybrid: share of rows that are teacher-forced instead, 0 to below 1
    """

    summary = "predict the whole answer in one pass from the prompt and dummy tokens"
    batchable = True
    recordable = True
    symbols = (DUMMY,)
    order = "parallel"
    usage = """\
# In one pass over the prompt and dummies: each token the likeliest at its place.
read = torch.nn.functional.pad(prompt.input_ids, (0, {length} - 1), value={symbol})
answer = tokens[model(read).logits[:, -{length}:, tokens].argmax(-1)]"""

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        hybrid: Annotated[float, Bounds(0, below=1)] = 0.0,
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.hybrid = hybrid
        self.dummy = vocab.token(DUMMY)

    @classmethod
    def looks_ahead(cls, options: Mapping[str, Any]) -> bool:
        return True

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        blind = batch.in_answer()
        if self.hybrid:
            draws = torch.rand(len(batch), 1, generator=rng, device=rng.device).to(blind.device)
            blind = blind & (draws >= self.hybrid)
        inputs = batch.tokens.masked_fill(blind, self.dummy)
        return answer_loss(answer_logits(self.backbone, inputs, batch), batch, "teacherless")

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return self._decode(prompt, n, choose_likeliest)

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return self._decode(prompt, n, choose_at(temperature, rng))

    def _decode(self, prompt: Tensor, n: int, choose: Choose) -> Tensor:
        """[B, P] -> [B, n] in one pass; where tokens are drawn, each is drawn blind to the others."""
        return choose(self._logits(prompt, n)) if n else prompt[:, :0]

    def _logits(self, prompt: Tensor, n: int) -> Tensor:
        """[B, P] -> [B, n, V], from the prompt and dummies; n is at least 1."""
        inputs = functional.pad(prompt, (0, n - 1), value=self.dummy)
        first = prompt.shape[1] - 1
        return self.backbone.logits(self.backbone(self.backbone.embed(inputs), keep=slice(first, first + n)))

    def forced(self, batch: Batch) -> None:
        return None

    def trace(self, prompt: Tensor, n: int) -> Trace:
        log_probs = self._logits(prompt, n)[0].float().log_softmax(-1)
        return Trace(log_probs, torch.ones(n, dtype=torch.int64, device=prompt.device))
