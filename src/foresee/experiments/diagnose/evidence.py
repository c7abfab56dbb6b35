"""The few numbers that a verdict on one next-token run rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median_high
from typing import Any

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.spec import resolve
from foresee.experiments.compare import steps_to_solve
from foresee.experiments.diagnose.decisions import Flags, TokenLosses
from foresee.experiments.diagnose.measure import Family, TokenScores, ratio
from foresee.experiments.diagnose.plan import FORWARD
from foresee.metrics.intervals import share
from foresee.objectives.base import objectives
from foresee.training.run import Run
from foresee.training.settings import CONTROL

APART = 3
"""Evaluations by which next-token and the control must lie apart for the ratio of their steps to mean anything."""
EXPLAINED = 0.5
"""Least share of the baseline's loss that must be saved for what is left to be called noise."""
SEEN = 30
"""Examples from which on a position counts for the least forced accuracy."""

Course = list[tuple[int, float]]
"""A value by step."""


@dataclass(frozen=True, kw_only=True)
class SeedEvidence:
    """Of one seed. Losses are nats a response, summed over its tokens, on held-out examples.

    ``exact``: share of responses that next-token gets right on its own; ``exact_low``, the low end of its interval.
    ``witness``: of the other trained models, whatever their objective and seed, the one that pays least for one half of
    the held-out problems. Only the other half then says how much that is: a model that is picked for its numbers is
    not judged by them. On that half alone: ``nll``, next-token's loss with the truth shown; ``gap``, ``nll`` minus the
    witness's, and ``gap_low``, the low end of its 95 % interval over problems (paired), -infinite with fewer than two
    of them; ``baseline``, the loss of knowing only how often each token stands at each position; ``decision_loss``, the
    part of ``nll`` on decision tokens. Every model is a normalised one of whole
    responses, so what the witness saves is there to be learned. ``witness_exact`` is on all examples.
    ``control_exact``: ``reversed``, the best seed; ``control_steps``: the fewest steps in which one solved, None where
    none did. ``unexplained``: the share of responses for which the better of next-token and witness saves less than
    half of the baseline's loss.
    ``fall``, ``overfit``: by how much ``nll`` on the watched examples fell over the second half of training (infinite
    where training was too short to say), and ended above its least value.
    ``decision_rise``: the share of what forced accuracy at decision positions lacked at the middle of training that it
    gained by the end, on the watched examples; infinite where there are no such positions, or training was too short.
    ``drop``, ``drop_low``: forced minus free-running accuracy, mean over tokens, and the low end of its interval.
    ``least_forced``: the least forced accuracy of any position that 30 examples have, or a quarter of fewer.
    ``compounded``: mean over responses of the product of forced accuracies at their positions, ``exact`` if errors at
    different positions were independent and each spoiled the response.
    ``rows``, ``problems``: held-out examples, and different problems among them. ``cost``: steps until next-token first
    solved over those of the control (``compare_steps``); None where it cannot be told. ``chance``: the task's.
    """

    exact: float
    exact_low: float
    nll: float
    gap: float
    gap_low: float
    witness: str
    witness_exact: float
    control_exact: float
    control_steps: int | None
    baseline: float
    unexplained: float
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
    problems: int
    cost: float | None
    chance: float = 0.0

    def json(self) -> dict[str, Any]:
        """Everything as JSON values; what is infinite is left out."""
        return {
            name: value for name, value in asdict(self).items() if not isinstance(value, float) or math.isfinite(value)
        }  # fmt: skip


def charge_for_length(families: Mapping[str, Family]) -> dict[str, Family]:
    """Has objectives that write backwards pay for where a response ends what next-token pays, the mean of its seeds.

    They write its end first and are told how many tokens follow, so that their own losses are those of responses of a
    known length: where lengths are a matter of chance, they would seem to have learned something.
    """
    stops = [each.stops for each in families[FORWARD].scores if each.stops is not None]
    if not stops:
        return dict(families)
    cost = torch.stack(stops).mean(0)
    return {
        name: replace(family, scores=tuple(replace(each, loss=each.loss + cost) for each in family.scores))
        if resolve(objectives, family.objective).cls.order == "backward"
        else family
        for name, family in families.items()
    }


def gather_evidence(
    families: Mapping[str, Family],
    batch: Batch,
    losses: TokenLosses,
    flags: Flags,
    places: Sequence[int],
    baseline: Tensor,
    chance: float,
    watched_length: float,
) -> list[SeedEvidence]:
    """The evidence of each next-token seed. ``places`` are the decision positions, counted from 0; ``baseline`` [E] is
    ``baseline_losses``, ``chance`` the task's, and ``watched_length`` the mean length of the watched responses."""
    forward, control = families[FORWARD], families[CONTROL]
    choosing, testing = split_problems(losses.problems)
    problems, whole = losses.problems[testing], torch.ones(int(testing.sum()))
    others = [
        (name, each) for name, family in families.items() if name != FORWARD and family.kind != "none"
        for each in family.scores
    ]  # fmt: skip
    witness, best = min(others, key=lambda other: float(other[1].nll[choosing].mean()))
    solved = [step for run in control.runs if (step := steps_to_solve(run)) is not None]
    evidence = []
    for seed, (run, own) in enumerate(zip(forward.runs, forward.scores, strict=True)):
        surest = min(own, best, key=lambda each: float(each.nll.mean()))
        gap = ratio((own.nll - best.nll)[None, testing], whole, problems)
        curve = losses_during(run, watched_length)
        drop = ratio((own.right.float() - own.free.float()).sum(1)[None], losses.mask.sum(1), losses.problems)
        right = share(own.exact, losses.problems)
        assert drop is not None
        assert gap is not None
        least, compounded = _compound(own, losses.mask)
        evidence.append(
            SeedEvidence(
                exact=right["value"], exact_low=right["low"], nll=float(own.nll[testing].mean()), gap=gap["value"],
                gap_low=gap.get("low", -math.inf), witness=witness, witness_exact=float(best.exact.double().mean()),
                control_exact=max(float(each.exact.double().mean()) for each in control.scores),
                control_steps=min(solved, default=None), baseline=float(baseline[testing].mean()),
                unexplained=float((surest.nll > (1 - EXPLAINED) * baseline).double().mean()),
                fall=measure_fall(curve, run.spec.steps),
                overfit=max(0.0, curve[-1][1] - min(loss for _, loss in curve)) if curve else 0.0,
                decision_loss=float((own.loss * flags.decision[seed]).double().sum(1)[testing].mean()),
                decision_positions=len(places),
                decision_rise=measure_gain(accuracies_during(run, places), run.spec.steps), drop=drop["value"],
                drop_low=drop.get("low", -math.inf), least_forced=least, compounded=compounded, rows=len(batch),
                problems=drop["problems"], cost=compare_steps(forward, control), chance=chance,
            )
        )  # fmt: skip
    return evidence


def split_problems(problems: Tensor) -> tuple[Tensor, Tensor]:
    """[E] -> two masks [E]: every other problem, in the order in which they appear, and the rest. One problem alone is
    in both."""
    seen: dict[int, int] = {}
    order = torch.tensor([seen.setdefault(problem, len(seen)) for problem in problems.tolist()])
    first = order % 2 == 0
    return first, ~first if len(seen) > 1 else first


def losses_during(run: Run, length: float) -> Course:
    """Forced loss (nats a response of mean ``length``) of each evaluation during training that has one."""
    seen = [(line["step"], line["eval"].get("forced_loss")) for line in run.metrics]
    return [(step, loss * length) for step, loss in seen if loss is not None]


def accuracies_during(run: Run, places: Sequence[int]) -> Course:
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


def measure_fall(curve: Course, steps: int) -> float:
    """The mean value of evaluations at 40 to 60 % of training minus that of the last 20 %; infinite where either has
    none."""
    ends = _middle_and_end(curve, steps)
    return math.inf if ends is None else ends[0] - ends[1]


def measure_gain(curve: Course, steps: int) -> float:
    """The share of what the accuracies of ``curve`` lacked at the middle of training that they gained by the end; 0
    where they lacked nothing, infinite where there is no middle or end."""
    ends = _middle_and_end(curve, steps)
    if ends is None:
        return math.inf
    middle, end = ends
    return (end - middle) / (1 - middle) if middle < 1 else 0.0


def _middle_and_end(curve: Course, steps: int) -> tuple[float, float] | None:
    middle = [value for step, value in curve if 0.4 * steps <= step <= 0.6 * steps]
    last = [value for step, value in curve if step > 0.8 * steps]
    return (sum(middle) / len(middle), sum(last) / len(last)) if middle and last else None


def _compound(own: TokenScores, mask: Tensor) -> tuple[float, float]:
    """The least forced accuracy of a position, and the mean over responses of their product."""
    counts = mask.sum(0)
    accuracy = (own.right & mask).sum(0) / counts.clamp(min=1)
    seen = accuracy[counts >= min(SEEN, max(1, len(mask) // 4))]
    product = torch.where(mask, accuracy, torch.ones(())).double().prod(1)
    return float(seen.min()), float(product.mean())


def compare_steps(forward: Family, control: Family) -> float | None:
    """Median steps to solve of next-token over those of the control; None where either never did in most seeds, or
    where they lie fewer than ``APART`` evaluations apart, which is as finely as either is known.

    The control alone: it differs from next-token in nothing but the order of the response."""
    own, other = (median_high([_time_to_solve(run) for run in family.runs]) for family in (forward, control))
    apart = own - other >= APART * forward.runs[0].spec.eval_every if math.isfinite(own + other) else False
    return own / other if apart else None


def _time_to_solve(run: Run) -> float:
    step = steps_to_solve(run)
    return math.inf if step is None else step


def baseline_losses(train: Batch, test: Batch, symbols: int) -> Tensor:
    """[E] nats of each held-out response for a model that knows only how often each of ``symbols`` tokens stands at
    each position of the training responses (one added to every count)."""
    answers, asked = train.padded_answers().cpu(), test.padded_answers().cpu()
    total = torch.zeros(len(asked), dtype=torch.float64)
    for place in range(asked.shape[1]):
        seen = answers[:, place] if place < answers.shape[1] else answers[:, :0].flatten()
        counts = torch.bincount(seen[seen >= 0], minlength=symbols).double() + 1
        here = asked[:, place]
        total -= torch.where(here >= 0, (counts / counts.sum()).log()[here.clamp(min=0)], 0.0)
    return total
