"""Absorbing-state diffusion: answer tokens masked at random are restored, and decoding fills in the surest first.

Each masked token is restored at its own place, reading in both directions; the prompt is never masked. Over the draws
every set of known tokens occurs, so no order of deciding is built in, and easy tokens can come first.

Family: other orders and masked inputs.
Source: MDLM (Sahoo et al. 2024), LLaDA (Nie et al. 2025); MLM-U (Kitouni et al. 2024, arXiv 2406.05183); MGDM (Ye et
al. 2024, arXiv 2410.14157).
Loss: ``weighting`` weighs a masked token's cross entropy. ``elbo`` (MDLM, LLaDA): level t ~ U(0.001, 1) for each row,
low-discrepancy over the batch; every token is masked with probability t, weight 1/t. ``mean`` (MLM-U): rate r ~ U(0,
1), the mean over a row's masked tokens, rows without any drawn again, so their number is uniform on 1 to l. ``mgdm``: t
~ U{0 ... 19}, masked with probability (t + 1)/20, weight (20 - t) v with ``v = 0.25 (1 - exp(-loss))``, not detached,
divided by the batch's masked tokens. The others are means over answer tokens.
Decoding: from masks alone in ``steps`` passes, each filling in the surest tokens: n s / steps (rounded down) of n after
pass s. No cache.
Dropped: nothing.
Deviations: the default is ``mean``: ``elbo`` has its expectation, but weights whose standard deviation exceeds their
mean, and leaves rows without a loss. No time embedding. Strata of ``elbo`` are dealt at random. MLM-U has encoder and
decoder and decodes left to right. MGDM predicts x_i from position i - 1, trains on padding and masks again in decoding;
here predictions stand at their own place, padding is no target, and what is filled in stays.
Drawing:
    fed                           p1 p2 p3 a1 <mask> <mask> a4
    reads                         full
    own token (masked-diffusion)  . . . . a2 a3 .
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from foresee.backbones import Attend, Backbone, Cap
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, Objective, Trace, objectives
from foresee.objectives.decoding import trace_passes
from foresee.objectives.teacher_forcing import answer_mean, answer_targets, cross_entropy, target_mask, token_losses

MASK = "<mask>"

SMALLEST_LEVEL = 1e-3
"""Of ``elbo``, as in MDLM's code: it bounds the weight 1/t."""

MGDM_LEVELS, MGDM_ALPHA = 20, 0.25
"""Steps of diffusion, and the constant of the focal factor (MGDM's code; its exponent is 1 on planning tasks)."""

Weighting = Literal["elbo", "mean", "mgdm"]


def draw_mask(batch: Batch, weighting: Weighting, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which of the answer columns are masked, [B, A] bool, and the weight [B, 1] of a row's masked tokens in a mean
    over all answer tokens of the batch."""
    rows, in_answer = len(batch), target_mask(batch)
    device = in_answer.device
    uniform = torch.rand(in_answer.shape, generator=rng, device=rng.device).to(device)
    if weighting == "elbo":
        strata = torch.randperm(rows, generator=rng, device=rng.device)
        within = torch.rand(rows, generator=rng, device=rng.device)
        level = (SMALLEST_LEVEL + (1 - SMALLEST_LEVEL) * (strata + within) / rows)[:, None].to(device)
        return in_answer & (uniform < level), 1 / level
    if weighting == "mean":
        length = batch.answer_len[:, None]
        share = torch.rand(rows, 1, generator=rng, device=rng.device).to(device)
        number = ((share * length).long() + 1).clamp(max=length)
        rank = uniform.masked_fill(~in_answer, 2.0).argsort(1).argsort(1)
        return rank < number, length / number.clamp(min=1)
    step = torch.randint(MGDM_LEVELS, (rows, 1), generator=rng, device=rng.device).to(device)
    masked = in_answer & (uniform < (step + 1) / MGDM_LEVELS)
    return masked, (MGDM_LEVELS - step) * batch.answer_len.sum() / masked.sum().clamp(min=1)


@objectives.register("masked-diffusion")
class MaskedDiffusion(Objective):
    """Needs LOOKAHEAD to read an answer in both directions, and POSITIONS because without any all masks look the same.
    Ragged batches also need VISIBILITY, so that no row reads its padding. The loss ``per_token`` is zero at answer
    tokens that were not masked, and includes the weight at those that were.

    Options:
        weighting: of masked tokens' losses: `elbo`, `mean` or `mgdm`
        steps: passes at decoding; `none` is one for each token, 1 is teacherless decoding
    """

    summary = "predict masked answer tokens with bidirectional attention; decode the surest first"
    batchable = True
    recordable = True
    needs = frozenset({Cap.LOOKAHEAD, Cap.POSITIONS})
    symbols = (MASK,)
    order = "parallel"
    needs_length = True
    usage = """\
# From masks, reading in both directions: each pass fills in the places that the model is surest of.
length, steps, mask = {length}, {steps}, {symbol}
tokens, answer = tokens[tokens != mask], torch.full((1, length), mask)
for step in range(steps):
    read = torch.cat((prompt.input_ids, answer), 1)
    everything = torch.zeros(1, 1, read.shape[1], read.shape[1])
    scores = model(read, attention_mask=everything).logits[:, -length:, tokens].log_softmax(-1)
    sure, best = scores.max(-1)
    number = length * (step + 1) // steps - length * step // steps
    places = sure.masked_fill(answer != mask, -torch.inf).topk(number).indices
    answer.scatter_(1, places, tokens[best].gather(1, places))"""

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        weighting: Weighting = "mean",
        steps: Annotated[int | None, Bounds(1, why="or none for a token a step")] = None,
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.weighting, self.steps = weighting, steps
        self.recordable = weighting != "elbo"  # which shuffles rows
        self.mask = vocab.token(MASK)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first = batch.layout.first
        masked, weight = draw_mask(batch, self.weighting, rng)
        answers = answer_targets(batch)
        inputs = torch.cat((batch.tokens[:, :first], answers.masked_fill(masked, self.mask)), 1)
        losses = cross_entropy(self._logits(inputs, first, self._attend(batch)), answers).masked_fill(~masked, 0.0)
        if self.weighting == "mgdm":
            losses = losses * MGDM_ALPHA * (1 - torch.exp(-losses))
        losses = losses * weight
        total = answer_mean(losses, batch)
        return LossOut(total, {"masked-diffusion": total}, token_losses(losses, batch))

    def count_terms(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        if self.weighting != "mgdm":
            return {}
        return {"masked-diffusion": draw_mask(batch, self.weighting, rng)[0].sum()}

    def _attend(self, batch: Batch) -> Attend:
        """Every column reads every other, but never padding."""
        if batch.layout.uniform:
            return "full"
        length = batch.layout.last
        columns = torch.arange(length, device=batch.tokens.device)
        real = columns < (batch.prompt_len + batch.answer_len)[:, None]
        return real[:, None].expand(-1, length, -1)

    def _logits(self, tokens: Tensor, first: int, attend: Attend) -> Tensor:
        """[B, T] -> [B, T - first, V], each for the token at its own place. No place can hold a mask (MDLM's SUBS)."""
        states = self.backbone(self.backbone.embed(tokens), attend=attend, keep=slice(first, tokens.shape[1]))
        logits = self.backbone.logits(states)
        never = torch.arange(logits.shape[-1], device=logits.device) == self.mask
        return logits.masked_fill(never, -math.inf)

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        answer = prompt.new_full((len(prompt), n), self.mask)
        for _ in self._fill(prompt, answer):
            pass
        return answer

    def _fill(self, prompt: Tensor, answer: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Fills in an ``answer`` [B, n] of masks, a few places a pass; each pass gives the places that it filled [B, K]
        and the log-probabilities [B, K, V] that it chose their tokens by."""
        n = answer.shape[1]
        steps = n if self.steps is None else min(self.steps, n)
        for step in range(steps):
            number = n * (step + 1) // steps - n * step // steps
            tokens = torch.cat((prompt, answer), 1)
            log_probs = self._logits(tokens, prompt.shape[1], "full").float().log_softmax(-1)
            confidence, token = log_probs.max(-1)
            chosen = confidence.masked_fill(answer != self.mask, -math.inf).topk(number, 1).indices
            answer.scatter_(1, chosen, token.gather(1, chosen))
            yield chosen, log_probs.take_along_dim(chosen[..., None], 1)

    def forced(self, batch: Batch) -> None:
        return None

    def trace(self, prompt: Tensor, n: int) -> Trace:
        return trace_passes(self._fill(prompt, prompt.new_full((1, n), self.mask)))
