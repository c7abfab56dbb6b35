"""Absorbing-state diffusion: the network restores answer tokens hidden at random, and decoding uncovers the easy first.

Fed: the whole prompt, which is never masked, and the answer with some tokens replaced by ``<mask>``, read in both
directions. Predicted: the masked tokens, each at its own place. Dropped at decoding: nothing.

Every option weighs the masked tokens' cross entropies differently (research/objectives.md sections 11 and 12):

* ``elbo``: MDLM (Sahoo et al. 2024) and LLaDA (Nie et al. 2025). A level t ~ U(0.001, 1) for each row, low-discrepancy
  over the batch; every answer token is masked with probability t; weight 1/t. The negative evidence lower bound for
  each answer token.
* ``mean``: MLM-U (Kitouni et al. 2024). A rate r ~ U(0, 1) for each row; the mean over its masked tokens. Rows without
  a masked token are drawn again, which makes the number of masked tokens uniform on 1..l: it is drawn as such. Its
  expectation is that of ``elbo`` (but for levels below 0.001), and of next-token in random orders.
* ``mgdm``: MGDM (Ye et al. 2024). t ~ U{0, ..., 19} for each row, masked with probability (t + 1)/20, weight
  (20 - t) v with v = 0.25 (1 - exp(-loss)), not detached; the sum is divided by the batch's number of masked tokens.

Normalisation: ``elbo`` and ``mean`` are averaged over the batch's answer tokens (a row's mean counts by its length).

Deviations. No time embedding (optional in MDLM, absent in the others). Strata of ``elbo`` are dealt to rows at random,
so that repeated batches do not tie a row to its level. MLM-U splits encoder and decoder; here one stack does both.
MGDM predicts x_i from position i - 1, trains on padding, and decodes with re-masking; here predictions stand at their
own place in every weighting, padding is never a target, and tokens once written stay. MLM-U decodes left to right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Attend, Backbone, Cap
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, Objective, Trace, cross_entropy, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv

MASK = "<mask>"

SMALLEST_LEVEL = 1e-3
"""Of ``elbo``, as in MDLM's code: it bounds the weight 1/t."""

MGDM_LEVELS, MGDM_ALPHA = 20, 0.25
"""Steps of diffusion, and the constant of the focal factor (MGDM's code; its exponent is 1 on planning tasks)."""

Weighting = Literal["elbo", "mean", "mgdm"]


def draw_mask(batch: Batch, weighting: Weighting, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which columns from ``layout.first`` to ``layout.last`` are masked, [B, W] bool, and the weight [B, 1] of a row's
    masked tokens in a mean over all answer tokens of the batch."""
    layout, rows = batch.layout, len(batch)
    in_answer = batch.in_answer()[:, layout.first : layout.last]
    uniform = torch.rand(rows, layout.width, generator=rng, device=rng.device).to(in_answer.device)
    if weighting == "elbo":
        strata = torch.randperm(rows, generator=rng, device=rng.device)
        within = torch.rand(rows, generator=rng, device=rng.device)
        level = (SMALLEST_LEVEL + (1 - SMALLEST_LEVEL) * (strata + within) / rows)[:, None].to(in_answer.device)
        return in_answer & (uniform < level), 1 / level
    if weighting == "mean":
        length = batch.answer_len[:, None]
        share = torch.rand(rows, 1, generator=rng, device=rng.device).to(in_answer.device)
        number = ((share * length).long() + 1).clamp(max=length)
        rank = uniform.masked_fill(~in_answer, 2.0).argsort(1).argsort(1)
        return rank < number, length / number.clamp(min=1)
    step = torch.randint(MGDM_LEVELS, (rows, 1), generator=rng, device=rng.device).to(in_answer.device)
    masked = in_answer & (uniform < (step + 1) / MGDM_LEVELS)
    return masked, (MGDM_LEVELS - step) * batch.answer_len.sum() / masked.sum().clamp(min=1)


@objectives.register("masked-diffusion")
class MaskedDiffusion(Objective):
    """Options: ``weighting`` of the loss (elbo, mean or mgdm); ``steps`` of decoding, none for a token a step. Of n
    tokens, n s / steps (rounded down) are written after step s: always those whose likeliest token has the largest
    probability. One step is teacherless decoding.

    Needs LOOKAHEAD to read an answer in both directions, and POSITIONS because without any all masks look the same.
    Ragged batches also need VISIBILITY, so that no row reads its padding. The loss ``per_token`` is zero at answer
    tokens that were shown, and includes the weight at those that were masked.
    """

    summary = "restore randomly masked answer tokens, reading both ways; write the easiest first"
    needs = frozenset({Cap.LOOKAHEAD, Cap.POSITIONS})
    symbols = (MASK,)
    order: ClassVar[Literal["forward", "backward", "parallel"]] = "parallel"

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a1 <mask> <mask> a4",
                (Lane("own token", "masked-diffusion", ". . . . a2 a3 ."),),
                reads="full",
            ),
        )
    )
    explanation = Explanation(
        Family.ORDER,
        "A random share of the answer is masked and restored, each token at its own place, reading in both directions; "
        "the prompt is never masked. Over the draws every set of shown tokens occurs, so no single order of deciding "
        "is built in, and the easy tokens can come first. `weighting` says how much a masked token counts: `elbo` "
        "(the bound of MDLM and LLaDA), `mean` over a row's masked tokens (MLM-U), or `mgdm`.",
        "MDLM (Sahoo et al. 2024), LLaDA (Nie et al. 2025); "
        f"MLM-U (Kitouni et al. 2024, {arxiv('2406.05183')}); MGDM (Ye et al. 2024, {arxiv('2410.14157')}).",
        "From an answer of masks alone, in `steps` passes over the whole sequence, each writing the tokens that the "
        "network is surest of; no cache can be used. Nothing is dropped.",
        options={
            "weighting": "of masked tokens' losses: `elbo`, `mean` or `mgdm`",
            "steps": "passes at decoding; `none` is one for each token, 1 is teacherless decoding",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        weighting: Weighting = "elbo",
        steps: int | None = None,
    ) -> None:
        super().__init__(backbone, vocab)
        if steps is not None and steps < 1:
            raise RequestError(f"masked-diffusion: steps={steps} must be at least 1, or none for a token a step")
        self.weighting, self.steps = weighting, steps
        self.mask = vocab.token(MASK)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        masked, weight = draw_mask(batch, self.weighting, rng)
        prompts, answers = batch.tokens[:, :first], batch.tokens[:, first:last]
        shown = torch.cat((prompts, answers.masked_fill(masked, self.mask)), 1)
        losses = cross_entropy(self._logits(shown, first, self._attend(batch)), answers).masked_fill(~masked, 0.0)
        if self.weighting == "mgdm":
            losses = losses * MGDM_ALPHA * (1 - torch.exp(-losses))
        losses = losses * weight
        total = losses.sum() / batch.answer_len.sum()
        spread = functional.pad(losses.detach(), (first, batch.tokens.shape[1] - last))
        return LossOut(total, {"masked-diffusion": total}, spread)

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
        hidden = self.backbone(self.backbone.embed(tokens), attend=attend, keep=slice(first, tokens.shape[1]))
        logits = self.backbone.logits(hidden)
        never = torch.arange(logits.shape[-1], device=logits.device) == self.mask
        return logits.masked_fill(never, -math.inf)

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        answer = prompt.new_full((len(prompt), n), self.mask)
        for _ in self._passes(prompt, answer):
            pass
        return answer

    def _passes(self, prompt: Tensor, answer: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Writes an ``answer`` [B, n] of masks, a few places a pass; each pass gives the places that it wrote [B, k]
        and the log-probabilities of all places [B, n, V] that it chose them and their tokens by."""
        n = answer.shape[1]
        steps = n if self.steps is None else min(self.steps, n)
        for step in range(steps):
            number = n * (step + 1) // steps - n * step // steps
            tokens = torch.cat((prompt, answer), 1)
            log_probs = self._logits(tokens, prompt.shape[1], "full").float().log_softmax(-1)
            confidence, token = log_probs.max(-1)
            chosen = confidence.masked_fill(answer != self.mask, -math.inf).topk(number, 1).indices
            answer.scatter_(1, chosen, token.gather(1, chosen))
            yield chosen, log_probs

    def forced(self, batch: Batch) -> None:
        return None

    def traced(self, prompt: Tensor, n: int) -> Trace:
        places, rows = zip(
            *((chosen[0], log_probs[0, chosen[0]])
              for chosen, log_probs in self._passes(prompt, prompt.new_full((1, n), self.mask))),
            strict=True,
        )  # fmt: skip
        order = torch.cat(places).argsort()
        numbers = [number for number, each in enumerate(places, start=1) for _ in each]
        return Trace(torch.cat(rows)[order], torch.tensor(numbers, device=prompt.device)[order])
