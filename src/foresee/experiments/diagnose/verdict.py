"""What a diagnosis says: one name, the rule that gave it with its numbers, and what to try next.

The core is the chain rule. Every objective that is trained here is a normalised model of whole responses: forwards and
backwards as products of conditionals, teacherless as a product of marginals. So their losses of a whole response are
comparable, and the least one is an upper bound of what is unavoidable. Where another model pays less than next-token,
next-token has not learned something that can be learned. Where none does, what is left is noise, a free choice, or
beyond all of them. docs/diagnose.md argues each rule and says what it cannot see.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from foresee.core.spec import brief
from foresee.experiments.diagnose.evidence import EXPLAINED, SeedEvidence
from foresee.experiments.diagnose.plan import DiagnosisPlan, DiagnosisSettings
from foresee.metrics.verdict import SOLVED
from foresee.objectives.base import objectives

OPEN = "open to the cheat"
COMPOUNDING = "compounding errors"
TOO_SMALL = "not learned yet: budget too small"
COSTLY = "learned, at a cost in samples"
NONE_NEEDED = "no lookahead needed"
NAMES = (OPEN, COMPOUNDING, TOO_SMALL, COSTLY, NONE_NEEDED)
"""In the order in which ties between seeds are settled."""

GAP = 0.1
"""Nats a response by which another model must do better (low end) for something to be unlearned."""
STALLED = 0.2
"""Next-token has stalled where its loss fell over the second half of training by less than this share of the gap."""
RISEN = 0.1
"""Least share of what its accuracy at decision positions lacked, to be gained over that half, for a falling loss to
mean that they are being learned. A network that guesses between ever fewer wrong nodes, and at last between the right
two, gains loss for long and little accuracy."""
ON_DECISIONS = 0.5
"""Share of the gap that must sit on decision tokens for it to be the cheat's."""
COSTLY_FROM = 1.5
"""Times as many steps as the control from which on learning had a cost in samples."""
UNEXPLAINED = 0.25
"""Share of responses, each less than half explained, from which on what is left is not called noise either."""
BEYOND = 1.5
"""Times the gap from which on the loss on decision tokens is said to hold more than can be learned."""
FALLING = 0.05
"""Share of its loss (and at least ``GAP``) that next-token's must fall over the second half of training to count as
falling still."""
DROP = 0.05
"""Least loss of accuracy, forced to free-running, by the low end, that counts as errors that spread."""
RELIABLE = 0.8
"""Least forced accuracy at every position for errors to be called small ones that add up."""
FEW, DIFFERENT = 30, 0.5
"""Held-out problems, and the share of rows that are problems of their own, below which that is said."""
SETTLED_BY = 2.5
"""Times the control's steps to solve that a verdict takes: twice, and a quarter more for next-token to settle."""
PRODUCT = 0.1
"""How far ``exact`` may lie from the product of forced accuracies."""


@dataclass(frozen=True)
class DiagnosisVerdict:
    """``name`` is one of ``NAMES``; ``because`` is the rule that fired with its numbers; ``remarks`` are what else must
    be known to read it; ``advice`` is what to try next; ``seeds`` are the names that each next-token seed got."""

    name: str
    because: str
    remarks: tuple[str, ...]
    advice: tuple[str, ...]
    seeds: tuple[str, ...]


def judge(seeds: Sequence[SeedEvidence], asked: DiagnosisSettings, plan: DiagnosisPlan) -> DiagnosisVerdict:
    """The verdict that most next-token seeds get (ties go to the first of ``NAMES``), with the rule and numbers of the
    first seed that got it. What was asked and planned decides what a larger budget would be."""
    ruled = [apply_rules(evidence) for evidence in seeds]
    counts = Counter(name for name, _ in ruled)
    name = min(counts, key=lambda each: (-counts[each], NAMES.index(each)))
    first = next(number for number, (each, _) in enumerate(ruled) if each == name)
    remarks = list_remarks(name, seeds[first])
    if len(counts) > 1:
        listed = "; ".join(f"seed {number}: {each}" for number, (each, _) in enumerate(ruled))
        remarks = (f"The seeds do not agree ({listed}).", *remarks)
    advice = give_advice(name, seeds[first])
    if name == TOO_SMALL:
        further = SHORTER if asked.backbone.startswith("hf:") else FURTHER
        advice = (estimate_budget(seeds[first].control_steps, asked, plan), further)
    return DiagnosisVerdict(name, ruled[first][1], remarks, advice, tuple(each for each, _ in ruled))


def estimate_budget(control_steps: int | None, asked: DiagnosisSettings, plan: DiagnosisPlan) -> str:
    """How many minutes would do, or steps where those were asked for: the second half of training must find next-token
    settled, and what it learns at all it learns about when the control solves, at ``control_steps``. Where the control
    has not (None), twice as much is the least that could show more."""
    factor = 2.0 if control_steps is None else max(2.0, SETTLED_BY * control_steps / plan.steps)
    budget = f"--steps {math.ceil(factor * plan.steps)}"
    if asked.steps is None:
        minutes = factor * asked.minutes
        budget = f"--minutes {math.ceil(minutes) if minutes > 2 else math.ceil(10 * minutes) / 10:g}"
    if control_steps is None:
        return (
            f"Give at least {budget}: the control, reversed, has not solved within these {plan.steps:,} steps, so how "
            "much would be enough cannot be told yet."
        )
    return (
        f"Give {budget}, which should be enough: the control, reversed, solved at step {control_steps:,} of "
        f"{plan.steps:,}, and next-token must have settled by the middle of training."
    )


def apply_rules(e: SeedEvidence) -> tuple[str, str]:
    """The first rule that holds gives the name.

    1. ``exact`` >= 0.95, and surely (low end) more than any one answer gets: *learned, at a cost in samples* where
       ``cost`` >= 1.5, else *no lookahead needed*.
    2. *Not learned yet* where the best model saves less than half of the baseline's loss.
    3. The gap to the witness, on the half of the held-out problems that it was not picked by, less what next-token
       lost by overfitting, has a low end of at least 0.1 nats. Then *not learned yet* where next-token's loss still
       fell by at least a fifth of the gap over the second half of training, unless there are decision positions and
       its accuracy at them gained less than a tenth of what it lacked; *open to the cheat* where at least half of the
       gap's size sits on decision tokens; else *not learned yet*.
    4. No model surely does better. *Not learned yet* where in a quarter of the responses the best saves less than half
       of that loss, where next-token's still falls (by 5 % and 0.1 nats over the second half), or where the witness
       pays less by as much, though not surely.
    5. *Compounding errors* where free-running loses at least 0.05 of accuracy to forced (low end), every position is at
       least 0.8 right when forced, and ``exact`` is within 0.1 of the product.
    6. *No lookahead needed* where another order comes as low as next-token (within 5 % and 0.1 nats), or where nothing
       is a decision position.
    7. *Not learned yet*: a decision is left that next-token guesses, and no other order has come as far.
    """
    if e.exact >= SOLVED and e.exact_low > e.chance:
        solved = f"next-token gets {e.exact:.3f} >= {SOLVED} of held-out responses right on its own"
        if e.cost is not None and e.cost >= COSTLY_FROM:
            return COSTLY, f"{solved}, but took {e.cost:.1f} times the steps of the control, reversed"
        return NONE_NEEDED, solved
    best = min(e.nll, e.nll - e.gap)
    saved = 1 - best / e.baseline if e.baseline > 0 else 1.0
    if saved < EXPLAINED:
        return TOO_SMALL, (
            f"the best model pays {best:.2f} nats a response, where knowing only how frequent tokens are costs "
            f"{e.baseline:.2f}: {max(saved, 0.0):.0%} is saved, less than {EXPLAINED:.0%}"
        )
    return _with_a_gap(e) if e.gap_low - e.overfit >= GAP else _without_a_gap(e)


def _with_a_gap(e: SeedEvidence) -> tuple[str, str]:
    gap = (
        f"{_named(e.witness)} pays {e.nll - e.gap:.2f} nats a response where next-token pays {e.nll:.2f}: "
        f"{e.gap:.2f} nats (at least {e.gap_low:.2f}) are there to be learned"
    )
    if e.fall >= STALLED * e.gap and e.decision_rise >= RISEN:
        return TOO_SMALL, f"{gap}, but next-token is still learning: {_fell(e)}"
    if e.decision_loss >= ON_DECISIONS * e.gap:
        return OPEN, (
            f"{gap}; next-token has stopped learning {_what(e)}, and {e.decision_loss:.2f} nats of its loss sit on "
            "decision tokens, which stay hard while what follows them is given away"
        )
    return TOO_SMALL, (
        f"{gap}; but only {e.decision_loss:.2f} nats of next-token's loss sit on decision tokens, less than "
        f"{ON_DECISIONS:.0%} of that, so it is behind and not cheated"
    )


def _without_a_gap(e: SeedEvidence) -> tuple[str, str]:
    if e.unexplained >= UNEXPLAINED:
        return TOO_SMALL, (
            f"for {e.unexplained:.0%} of the responses even the best model saves less than {EXPLAINED:.0%} of what "
            f"knowing only how frequent tokens are costs (at least {UNEXPLAINED:.0%} of them is not noise in single "
            "tokens)"
        )
    if e.fall >= max(GAP, FALLING * e.nll):
        return TOO_SMALL, f"no other model surely does better, but next-token is still learning: {_fell(e)}"
    alike = max(GAP, FALLING * e.nll)
    if e.gap > alike:
        return TOO_SMALL, (
            f"{_named(e.witness)} pays {e.nll - e.gap:.2f} nats a response where next-token pays {e.nll:.2f}, but not "
            f"surely: at least {e.gap_low:.2f} less, of which next-token lost {e.overfit:.2f} by learning rows by heart"
        )
    if e.drop_low >= DROP and e.least_forced >= RELIABLE and abs(e.exact - e.compounded) <= PRODUCT:
        return COMPOUNDING, (
            f"every position is at least {e.least_forced:.2f} right with the truth shown, free-running loses "
            f"{e.drop:.2f} of that, and {e.exact:.3f} of whole responses are right where the product says "
            f"{e.compounded:.3f}; no other order pays less (next-token {e.nll:.2f} nats a response, "
            f"{_named(e.witness)} {e.nll - e.gap:.2f})"
        )
    if -e.gap <= alike or e.decision_positions == 0:
        other = f"{_named(e.witness)}, the best other, pays {e.nll - e.gap:.2f}"
        return NONE_NEEDED, (
            f"what next-token still pays, {e.nll:.2f} nats a response, no other order saves ({other}), and it has "
            f"stopped falling{'' if e.decision_positions else '; no position is a decision'}"
        )
    return TOO_SMALL, (
        f"{e.decision_positions} decision position(s) are left, and no other model has come as far as next-token "
        f"({e.nll:.2f} nats a response; {_named(e.witness)}, the best other, {e.nll - e.gap:.2f}), so nothing shows "
        "whether they can be learned"
    )


def _fell(e: SeedEvidence) -> str:
    if e.fall == float("inf"):
        return "training was too short to see its loss settle"
    return f"its loss fell by {e.fall:.2f} nats over the second half of training"


def _what(e: SeedEvidence) -> str:
    if e.fall < STALLED * e.gap:
        return f"({_fell(e)})"
    gained = f"at them its accuracy gained {e.decision_rise:.0%} of what it lacked, less than {RISEN:.0%}"
    return f"its decisions ({_fell(e)}, but {gained})"


def _named(objective: str) -> str:
    return brief(objectives, objective)


def list_remarks(name: str, e: SeedEvidence) -> tuple[str, ...]:
    """What else a reader must know."""
    remarks = []
    if e.problems < FEW:
        remarks.append(f"This rests on few held-out rows, of {e.problems} different problems.")
    if name == NONE_NEEDED and e.exact < SOLVED and abs(e.gap) <= max(GAP, FALLING * e.nll):
        remarks.append(
            f"The {e.nll:.2f} nats that are left cost every order alike: noise, a free choice, or something that none "
            "of these models can learn within any such budget. These three look the same from here."
        )
    if name == OPEN and e.control_exact >= SOLVED:
        remarks.append(
            f"The control shows that the budget was enough: the same network, written backwards, gets "
            f"{e.control_exact:.3f} of responses right."
        )
    elif name == OPEN:
        remarks.append(
            f"The control itself is not at {SOLVED} ({e.control_exact:.3f}), but {_named(e.witness)} proves that the "
            "difference can be learned on this budget."
        )
    if name == OPEN and e.decision_loss >= BEYOND * e.gap:
        remarks.append(
            f"Decision tokens hold {e.decision_loss:.2f} nats, of which {e.gap:.2f} are known to be there to be "
            "learned: some of them may be free choices, which look the same token by token."
        )
    if name == OPEN:
        remarks.append(
            "This holds for this network: that it learns the responses in another order does not show that it is deep "
            "enough to plan them forwards. A --backbone of more layers would tell."
        )
    if name in (TOO_SMALL, COMPOUNDING) and e.control_exact < SOLVED:
        remarks.append(
            f"The control, reversed, gets {e.control_exact:.3f} of responses right, so it does not show that the "
            "budget was enough for everything."
        )
    if e.overfit >= GAP:
        remarks.append(
            f"Next-token's held-out loss ended {e.overfit:.2f} nats above its least: it has begun to learn the "
            "training rows by heart, and more rows would help more than more steps."
        )
    if e.problems < DIFFERENT * e.rows:
        remarks.append(
            f"The {e.rows} held-out rows hold {e.problems} different problem{'s' if e.problems > 1 else ''}, which is "
            "what intervals count."
        )
    return tuple(remarks)


def give_advice(name: str, e: SeedEvidence) -> tuple[str, ...]:
    """What to try next."""
    if name == OPEN:
        so_far = "." if e.witness_exact >= SOLVED else f" (it gets {e.witness_exact:.3f} of responses right so far)."
        return (
            f"Train with {_named(e.witness)}, which learned on this budget what next-token did not{so_far}",
            (
                "If responses must be written forwards, try --objectives multi-token,belief-state,registers beside it: "
                "they are trained on what comes later too."
            ),
            "Or put the decision's reasons into the response before it, so that the prefix has to hold them.",
        )
    return ADVICE.get(name, ())


FURTHER = (
    "A checkpoint in place of a network from scratch (--backbone hf:...), shorter responses or a finer --tokenizer "
    "make a small budget go further too."
)
SHORTER = "Shorter responses make a small budget go further too."
"""Where the network is a checkpoint, which has a tokenizer of its own."""
ADVICE = {
    COMPOUNDING: (
        "Another training order will not help: the errors are small and spread over all positions.",
        (
            "More data or a larger network makes each step surer; shorter responses, or checking while decoding, keeps "
            "errors from adding up."
        ),
    ),
    COSTLY: (
        "Next-token is good enough here; reversed needs fewer samples, which matters where rows are few.",
        "If the order of the response is yours to choose, write first what is worked out first.",
    ),
    NONE_NEEDED: ("Next-token training is the right choice for these responses; nothing here calls for another.",),
}
"""Of every verdict but ``OPEN``, whose advice depends on the witness, and ``TOO_SMALL``, on what was asked."""
