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
from foresee.experiments.diagnose.measure import Family, Scores, ratio
from foresee.experiments.diagnose.plan import FORWARD
from foresee.metrics.intervals import Z95
from foresee.training.run import Run
from foresee.training.settings import CONTROL

APART = 3
"""Evaluations by which next-token and the control must lie apart for the ratio of their steps to mean anything."""
SEEN = 30
"""Examples from which on a position counts for the least forced accuracy."""

Curve = list[tuple[int, float]]
"""A value by step."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Of one seed. Losses are nats a response, summed over its tokens, on held-out examples.

    ``exact``, ``nll``: share of responses that next-token gets right on its own; its loss with the truth shown.
    ``gap``: ``nll`` minus that of ``witness``, which is the other trained model with the least, whatever its objective
    and seed. Every one is a normalised model of whole responses, so what it saves is there to be learned. ``gap_low``
    is the low end of its 95 % interval over examples (paired).
    ``control_exact``: ``reversed``, the best seed. ``baseline``: the loss of knowing only how often each token stands
    at each position.
    ``fall``, ``overfit``: by how much ``nll`` on the watched examples fell over the second half of training (infinite
    where training was too short to say), and ended above its least value.
    ``decision_loss``: the part of ``nll`` that sits on decision tokens. ``decision_rise``: the share of what forced
    accuracy at decision positions lacked at the middle of training that it gained by the end, on the watched examples;
    infinite where there are no such positions, or training was too short to say.
    ``drop``, ``drop_low``: forced minus free-running accuracy, mean over tokens, and the low end of its interval.
    ``least_forced``: the least forced accuracy of any position that at least 30 examples have. ``compounded``: mean
    over responses of the product of forced accuracies at their positions, ``exact`` if errors at different positions
    were independent and each spoiled the response.
    ``rows``, ``prompts``: held-out examples, and different prompts among them. ``cost``: steps until next-token first
    solved over those of the control (``compare_steps``); None where it cannot be told.
    """

    exact: float
    nll: float
    gap: float
    gap_low: float
    witness: str
    witness_exact: float
    control_exact: float
    baseline: float
    fall: float
    overfit: float
    decision_loss: float
    decision_positions: int
    decision_rise: float
    drop: float
    drop_low: float
    least_forced: float
    compounded: float
    rows: int
    prompts: int
    cost: float | None

    def json(self) -> dict[str, Any]:
        """Everything as JSON values; what is infinite is left out."""
        return {
            name: value for name, value in asdict(self).items() if not isinstance(value, float) or math.isfinite(value)
        }  # fmt: skip


def gather_evidence(
    families: Mapping[str, Family], batch: Batch, flags: Flags, places: Sequence[int], baseline: float
) -> list[Evidence]:
    """The evidence of each next-token seed. ``places`` are the decision positions, counted from 0."""
    forward, control = families[FORWARD], families[CONTROL]
    mask = batch.answer_mask().cpu()
    others = [
        (name, each) for name, family in families.items() if name != FORWARD and family.kind != "none"
        for each in family.scores
    ]  # fmt: skip
    witness, best = min(others, key=lambda other: float(other[1].nll.mean()))
    evidence = []
    for seed, (run, own) in enumerate(zip(forward.runs, forward.scores, strict=True)):
        difference = own.nll - best.nll
        gap, n = float(difference.mean()), len(difference)
        curve = losses_during(run, float(batch.answer_len.double().mean()))
        drop = ratio((own.right.float() - own.free.float()).sum(1)[None], mask.sum(1))
        assert drop is not None
        least, compounded = _compound(own, mask)
        evidence.append(
            Evidence(
                exact=float(own.exact.double().mean()), nll=float(own.nll.mean()), gap=gap,
                gap_low=gap - (Z95 * float(difference.std()) / math.sqrt(n) if n > 1 else math.inf), witness=witness,
                witness_exact=float(best.exact.double().mean()),
                control_exact=max(float(each.exact.double().mean()) for each in control.scores), baseline=baseline,
                fall=measure_fall(curve, run.spec.steps),
                overfit=max(0.0, curve[-1][1] - min(loss for _, loss in curve)) if curve else 0.0,
                decision_loss=float((own.loss * flags.decision[seed]).double().sum(1).mean()),
                decision_positions=len(places),
                decision_rise=measure_gain(accuracies_during(run, places), run.spec.steps), drop=drop["value"],
                drop_low=drop["low"], least_forced=least, compounded=compounded, rows=len(batch),
                prompts=len({tuple(prompt) for prompt, _ in batch.pairs()}), cost=compare_steps(forward, control),
            )
        )  # fmt: skip
    return evidence


def losses_during(run: Run, length: float) -> Curve:
    """Forced loss (nats a response of mean ``length``) of each evaluation during training that has one."""
    seen = [(line["step"], line["eval"].get("forced_loss")) for line in run.metrics]
    return [(step, loss * length) for step, loss in seen if loss is not None]


def accuracies_during(run: Run, places: Sequence[int]) -> Curve:
    """Forced accuracy, mean over the answer positions ``places``, of each evaluation during training; nothing where
    there are no such positions."""
    if not places:
        return []
    seen = [(line["step"], line["eval"].get("forced", [])) for line in run.metrics]
    return [
        (step, sum(forced[place] for place in places) / len(places))
        for step, forced in seen
        if max(places) < len(forced)
    ]


def measure_fall(curve: Curve, steps: int) -> float:
    """The mean value of evaluations at 40 to 60 % of training minus that of the last 20 %; infinite where either has
    none."""
    ends = _middle_and_end(curve, steps)
    return math.inf if ends is None else ends[0] - ends[1]


def measure_gain(curve: Curve, steps: int) -> float:
    """The share of what the accuracies of ``curve`` lacked at the middle of training that they gained by the end; 0
    where they lacked nothing, infinite where there is no middle or end."""
    ends = _middle_and_end(curve, steps)
    if ends is None:
        return math.inf
    middle, end = ends
    return (end - middle) / (1 - middle) if middle < 1 else 0.0


def _middle_and_end(curve: Curve, steps: int) -> tuple[float, float] | None:
    middle = [value for step, value in curve if 0.4 * steps <= step <= 0.6 * steps]
    last = [value for step, value in curve if step > 0.8 * steps]
    return (sum(middle) / len(middle), sum(last) / len(last)) if middle and last else None


def _compound(own: Scores, mask: Tensor) -> tuple[float, float]:
    """The least forced accuracy of a position, and the mean over responses of their product."""
    counts = mask.sum(0)
    accuracy = (own.right & mask).sum(0) / counts.clamp(min=1)
    seen = accuracy[counts >= min(SEEN, len(mask))]
    product = torch.where(mask, accuracy, torch.ones(())).double().prod(1)
    return float(seen.min()), float(product.mean())


def compare_steps(forward: Family, control: Family) -> float | None:
    """Median steps to solve of next-token over those of the control; None where either never did in most seeds, or
    where they lie fewer than ``APART`` evaluations apart, which is as finely as either is known.

    The control alone: it differs from next-token in nothing but the order of the response."""
    own, other = (_upper_median([steps_to_solve(run) for run in family.runs]) for family in (forward, control))
    apart = own - other >= APART * forward.runs[0].spec.eval_every if math.isfinite(own + other) else False
    return own / other if apart else None


def _upper_median(steps: list[int | None]) -> float:
    """``None`` is later than any step."""
    return sorted(math.inf if step is None else step for step in steps)[len(steps) // 2]


def baseline_loss(train: Batch, test: Batch, symbols: int) -> float:
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
