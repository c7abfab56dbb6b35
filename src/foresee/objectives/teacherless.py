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
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, Objective, Trace, objectives
from foresee.objectives.decoding import Choose, drawn, likeliest
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import answer_loss, teacher_forced

DUMMY = "$"


@objectives.register("teacherless")
class Teacherless(Objective):
    """Options: ``hybrid``, the share of teacher-forced rows (0 to below 1)."""

    summary = "predict the whole answer in one pass from the prompt and dummy tokens"
    symbols = (DUMMY,)
    order: ClassVar[Literal["forward", "backward", "parallel"]] = "parallel"

    diagram = Diagram((Stream("p1 p2 p3 $ $ $", (Lane("next token", "teacherless", ". . a1 a2 a3 a4"),)),))
    explanation = Explanation(
        Family.AHEAD,
        "Next-token training with every answer token in the input replaced by one dummy, `$`, so that only positions "
        "tell them apart. No answer token is shown, so none can be looked up from the one before it: the whole answer "
        "must be found from the prompt.",
        f"Bachmann & Nagarajan 2024, {arxiv('2403.06963')}, after Monea et al. 2023; `hybrid` after Nagarajan et al. "
        "2025 (Roll the dice).",
        "The whole answer in one pass over prompt and dummies, each token by itself; nothing is dropped.",
        options={"hybrid": "share of rows that are teacher-forced instead, 0 to below 1"},
    )

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
        return self._decode(prompt, n, likeliest)

    def sampled(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return self._decode(prompt, n, drawn(temperature, rng))

    def _decode(self, prompt: Tensor, n: int, choose: Choose) -> Tensor:
        """[B, P] -> [B, n] in one pass; where tokens are drawn, each is drawn blind to the others."""
        return choose(self._logits(prompt, n)) if n else prompt[:, :0]

    def _logits(self, prompt: Tensor, n: int) -> Tensor:
        """[B, P] -> [B, n, V], from the prompt and dummies; n is at least 1."""
        inputs = torch.nn.functional.pad(prompt, (0, n - 1), value=self.dummy)
        first = prompt.shape[1] - 1
        hidden = self.backbone(self.backbone.embed(inputs), keep=slice(first, first + n))
        return self.backbone.logits(hidden)

    def forced(self, batch: Batch) -> None:
        return None

    def traced(self, prompt: Tensor, n: int) -> Trace:
        log_probs = self._logits(prompt, n)[0].float().log_softmax(-1)
        return Trace(log_probs, torch.ones(n, dtype=torch.int64, device=prompt.device))
