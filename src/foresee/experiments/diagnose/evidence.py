"""The few numbers that a verdict on one next-token run rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.experiments.compare import steps_to_solve
from foresee.experiments.diagnose.decisions import Flags
from foresee.experiments.diagnose.interval import Z, ratio
from foresee.experiments.diagnose.measured import Family, Measured
from foresee.experiments.diagnose.question import FORWARD
from foresee.training.run import Run
from foresee.training.settings import CONTROL

APART = 3
"""Evaluations by which next-token and the control must lie apart for the ratio of their steps to mean anything."""

SEEN = 30
"""Examples from which on a position counts for the least forced accuracy."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Of one seed. Losses are nats a response, summed over its tokens, on held-out examples."""

    exact: float
    """Free-running next-token: share of responses that are right."""
    nll: float
    """Loss of next-token, the truth shown."""
    gap: float
    """``nll`` minus that of ``witness``, which is the other trained model with the least, whatever its objective and
    seed. Every one is a normalised model of whole responses, so what it saves is there to be learned."""
    gap_low: float
    """Low end of its 95 % interval over examples (paired)."""
    witness: str
    witness_exact: float
    control_exact: float
    """``reversed``, the best seed."""
    baseline: float
    """Loss of knowing only how often each token stands at each position."""
    fall: float
    """By how much ``nll`` fell over the second half of training, on the watched examples; infinite where training was
    too short to say."""
    overfit: float
    """By how much ``nll`` ended above its least value during training, on the watched examples."""
    decision_loss: float
    """The part of ``nll`` that sits on decision tokens."""
    decision_positions: int
    decision_rise: float
    """The share of what forced accuracy at decision positions lacked at the middle of training that it gained by the
    end, on the watched examples; infinite where there are no such positions, or training was too short to say."""
    drop: float
    """Forced minus free-running accuracy, mean over tokens."""
    drop_low: float
    """Low end of its interval."""
    least_forced: float
    """The least forced accuracy of any position that at least 30 examples have."""
    compounded: float
    """Mean over responses of the product of forced accuracies at their positions: ``exact`` if errors at different
    positions were independent and each spoiled the response."""
    rows: int
    """Held-out examples."""
    prompts: int
    """Different prompts among them."""
    cost: float | None
    """Steps until next-token first solved over those of the control (``cost_of``); None where it cannot be told."""

    def json(self) -> dict[str, Any]:
        """Everything as JSON values; what is infinite is left out."""
        return {name: value for name, value in asdict(self).items() if not _infinite(value)}


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def gather(
    found: Mapping[str, Family], batch: Batch, flags: Flags, decisions: Sequence[int], baseline: float
) -> list[Evidence]:
    """The evidence of each next-token seed. ``decisions`` are the decision positions, counted from 0."""
    forward, control = found[FORWARD], found[CONTROL]
    mask = batch.answer_mask().cpu()
    lengths = float(batch.answer_len.double().mean())
    others = [
        (name, each) for name, family in found.items() if name != FORWARD and family.kind != "none"
        for each in family.measured
    ]  # fmt: skip
    witness, best = min(others, key=lambda other: float(other[1].nll.mean()))
    cost = cost_of(forward, control)
    prompts = len({tuple(prompt) for prompt, _ in batch.pairs()})
    evidence = []
    for seed, (run, own) in enumerate(zip(forward.runs, forward.measured, strict=True)):
        difference = own.nll - best.nll
        gap = float(difference.mean())
        half = Z * float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else math.inf
        curve = losses_during(run, lengths)
        drop = ratio((own.right.float() - own.free.float()).sum(1)[None], mask.sum(1))
        assert drop is not None
        least, compounded = _forced(own, mask)
        evidence.append(
            Evidence(
                exact=float(own.exact.double().mean()),
                nll=float(own.nll.mean()),
                gap=gap,
                gap_low=gap - half,
                witness=witness,
                witness_exact=float(best.exact.double().mean()),
                control_exact=max(float(each.exact.double().mean()) for each in control.measured),
                baseline=baseline,
                fall=fall_of(curve, run.spec.steps),
                overfit=max(0.0, curve[-1][1] - min(loss for _, loss in curve)) if curve else 0.0,
                decision_loss=float((own.loss * flags.decision[seed]).double().sum(1).mean()),
                decision_positions=len(decisions),
                decision_rise=gain_of(accuracies_during(run, decisions), run.spec.steps),
                drop=drop["value"],
                drop_low=drop["low"],
                least_forced=least,
                compounded=compounded,
                rows=len(batch),
                prompts=prompts,
                cost=cost,
            )
        )  # fmt: skip
    return evidence


def losses_during(run: Run, length: float) -> list[tuple[int, float]]:
    """Step and forced loss (nats a response of mean ``length``) of each evaluation during training that has one."""
    seen = [(line["step"], line["eval"].get("forced_loss")) for line in run.metrics]
    return [(step, loss * length) for step, loss in seen if loss is not None]


def accuracies_during(run: Run, places: Sequence[int]) -> list[tuple[int, float]]:
    """Step and forced accuracy, mean over the answer positions ``places``, of each evaluation during training; nothing
    where there are no such positions."""
    if not places:
        return []
    seen = [(line["step"], line["eval"].get("forced", [])) for line in run.metrics]
    return [
        (step, sum(forced[place] for place in places) / len(places))
        for step, forced in seen
        if max(places) < len(forced)
    ]


def fall_of(curve: list[tuple[int, float]], steps: int) -> float:
    """The mean value of evaluations at 40 to 60 % of training minus that of the last 20 %; infinite where either has
    none."""
    ends = middle_and_end(curve, steps)
    return math.inf if ends is None else ends[0] - ends[1]


def gain_of(curve: list[tuple[int, float]], steps: int) -> float:
    """The share of what the accuracies of ``curve`` lacked at the middle of training that they gained by the end; 0
    where they lacked nothing, infinite where there is no middle or end."""
    ends = middle_and_end(curve, steps)
    if ends is None:
        return math.inf
    middle, end = ends
    return (end - middle) / (1 - middle) if middle < 1 else 0.0


def middle_and_end(curve: list[tuple[int, float]], steps: int) -> tuple[float, float] | None:
    """Mean values of the evaluations at 40 to 60 % of training and of those in the last 20 %, where both have any."""
    middle = [value for step, value in curve if 0.4 * steps <= step <= 0.6 * steps]
    last = [value for step, value in curve if step > 0.8 * steps]
    return (sum(middle) / len(middle), sum(last) / len(last)) if middle and last else None


def _forced(own: Measured, mask: Tensor) -> tuple[float, float]:
    counts = mask.sum(0)
    accuracy = (own.right & mask).sum(0) / counts.clamp(min=1)
    seen = accuracy[counts >= min(SEEN, len(mask))]
    product = torch.where(mask, accuracy, torch.ones(())).double().prod(1)
    return float(seen.min()), float(product.mean())


def cost_of(forward: Family, control: Family) -> float | None:
    """Median steps to solve of next-token over those of the control; None where either never did in most seeds, or
    where they lie fewer than ``APART`` evaluations apart, which is as finely as either is known.

    The control alone: it differs from next-token in nothing but the order of the response."""
    own, other = (_median([steps_to_solve(run) for run in family.runs]) for family in (forward, control))
    if own is None or other is None or own - other < APART * forward.runs[0].spec.eval_every:
        return None
    return own / other


def _median(steps: list[int | None]) -> float | None:
    """The upper median, where ``None`` is later than any step."""
    ordered = sorted(math.inf if step is None else step for step in steps)
    middle = ordered[len(ordered) // 2]
    return None if math.isinf(middle) else middle


def baseline_of(train: Batch, test: Batch, symbols: int) -> float:
    """Mean nats a held-out response of a model that knows only how often each of ``symbols`` tokens stands at each
    position of the training responses (one added to every count)."""
    answers, asked = train.padded_answers().cpu(), test.padded_answers().cpu()
    total = 0.0
    for place in range(asked.shape[1]):
        seen = answers[:, place] if place < answers.shape[1] else answers[:, :0].flatten()
        counts = torch.bincount(seen[seen >= 0], minlength=symbols).double() + 1
        here = asked[:, place]
        total -= float((counts / counts.sum()).log()[here[here >= 0]].sum())
    return total / len(test)
