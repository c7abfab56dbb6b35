"""Next-token prediction by teacher forcing: the objective whose failure this project is about.

Bachmann & Nagarajan 2024: maximise sum_i log p(r_i | prompt, r_<i) with the true r_<i shown; loss on answer tokens
only, averaged over the batch's answer tokens. The first answer token is predicted from the prompt's last position.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import shared_prefix
from foresee.objectives.base import LossOut, Objective, cross_entropy, objectives
from foresee.objectives.decoding import decode, drawn, greedy
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv


def answer_states(backbone: Backbone, inputs: Tensor, batch: Batch) -> Tensor:
    """Final states [B, A, D] that predict the batch's answer columns, where ``inputs`` [B, T] is what is shown.

    Column ``layout.first + i`` of the tokens is predicted by state ``[:, i]``, that of the position before it.
    Where rows share a prefix (``layout.shared``), ``inputs`` must too: what is shown of answers may be changed, prompts
    may not.
    """
    first, last = batch.layout.first, batch.layout.last
    shown = inputs[:, : last - 1]
    if shared_prefix.can_share(backbone, batch.layout, len(batch)):
        return shared_prefix.states(backbone, shown, batch.layout)
    hidden: Tensor = backbone(backbone.embed(shown), keep=slice(first - 1, last - 1))
    return hidden


def teacher_forced(backbone: Backbone, inputs: Tensor, batch: Batch) -> Tensor:
    """Logits [B, A, V] for the batch's answer columns, of the states that ``answer_states`` gives."""
    return backbone.logits(answer_states(backbone, inputs, batch))


def answer_loss(logits: Tensor, batch: Batch, part: str) -> LossOut:
    """Mean cross entropy over the batch's answer tokens, from logits [B, A, V] of the answer columns."""
    first, last = batch.layout.first, batch.layout.last
    losses = cross_entropy(logits, batch.tokens[:, first:last])
    if batch.layout.uniform:
        total = losses.mean()
    else:
        losses = losses * batch.in_answer()[:, first:last]
        total = losses.sum() / batch.answer_len.sum()
    spread = functional.pad(losses.detach(), (first, batch.tokens.shape[1] - last))
    return LossOut(total, {part: total}, spread)


@objectives.register("next-token")
class NextToken(Objective):
    """Teacher forcing, greedy left-to-right decoding."""

    summary = "teacher forcing: predict each answer token with the true earlier ones shown"

    diagram = Diagram((Stream("p1 p2 p3 a1 a2 a3", (Lane("next token", "next-token", ". . a1 a2 a3 a4"),)),))
    explanation = Explanation(
        Family.BASELINE,
        "Each answer token is predicted from the prompt and the *true* answer tokens before it. On path-star that lets "
        "the network find every token after the branch by looking up the edge that leaves the token just shown. The "
        "loss of the branch token alone is left to teach planning, and it does not.",
        f"Bachmann & Nagarajan 2024, {arxiv('2403.06963')}: the objective whose failure this project is about.",
        "One token at a time, greedily; nothing is dropped.",
    )

    def __init__(self, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator) -> None:
        super().__init__(backbone, vocab)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        return answer_loss(teacher_forced(self.backbone, batch.tokens, batch), batch, "next-token")

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return greedy(self.backbone, prompt, n)

    def sampled(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return decode(self.backbone, prompt, n, drawn(temperature, rng))

    def forced(self, batch: Batch) -> Tensor:
        batch.answers  # noqa: B018  # refuses ragged batches
        return functional.log_softmax(teacher_forced(self.backbone, batch.tokens, batch).float(), -1)
