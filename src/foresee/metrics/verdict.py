"""What a run's measurements say happened: one name, and the rule that gave it with its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foresee.metrics.base import Row, Rows

SOLVED = 0.95
"""Least ``exact`` of a solved task."""
RELIABLE = 0.9
"""Least rate of something that a model can be said to do: follow an arm, know a token."""
NEAR = 0.05
"""How far ``exact`` may be from ``compounded``."""
MEMORY_GAP = 0.2
"""Least gap between ``train_branch`` and ``branch`` that counts as memorising."""
ROUNDING = 1e-9
"""Differences of rates are compared with this slack, so that 0.7 - 0.5 is at least 0.2."""
MARGIN, SHARE_OF_CHANCE = 0.05, 4
"""At chance is within the smaller of ``MARGIN`` and chance / ``SHARE_OF_CHANCE``."""

NEED_NO_CONTROL = ("solved", "open-ended")
"""Verdicts that a budget too small cannot have caused."""


@dataclass(frozen=True)
class Verdict:
    """``name`` is solved, memorised, clever-hans, undecided, compounding, unfitted, partial or open-ended; ``because``
    is one sentence with the rule that fired and its numbers. ``doubts`` say why a verdict other than solved is not
    conclusive (``control.py``); none where it is."""

    name: str
    because: str
    doubts: tuple[str, ...] = ()

    @property
    def inconclusive(self) -> bool:
        """Whether anything is in doubt."""
        return bool(self.doubts)

    @property
    def label(self) -> str:
        """The name, marked where it is inconclusive."""
        return self.name + (" (inconclusive)" if self.inconclusive else "")

    def json(self) -> dict[str, Any]:
        """As it stands in ``--json`` output."""
        return {"name": self.name, "inconclusive": self.inconclusive, "because": self.because,
                "doubts": list(self.doubts)}  # fmt: skip


def judge(rows: Rows, chance: float, doubts: Sequence[str] = ()) -> Verdict:
    """The verdict on a run's rows, by the first rule of ``_find_rule`` that holds.

    A rule cannot fire where one of its rows is absent or not a finite number. A task with many right answers to one
    prompt (it has a row ``valid``) is ``open-ended``. ``doubts`` count for any verdict but solved and open-ended.
    """
    name, because = _find_rule(rows, chance)
    return Verdict(name, because, () if name in NEED_NO_CONTROL else tuple(doubts))


def at_chance(row: Row, chance: float) -> bool:
    """Whether a rate's interval lies within min(0.05, chance / 4) of chance, or holds chance and is no wider than twice
    that: the one definition, for verdicts, claims and studies."""
    margin = chance_margin(chance) + ROUNDING
    within = chance - margin <= row["low"] and row["high"] <= chance + margin
    return within or (row["low"] <= chance <= row["high"] and row["high"] - row["low"] <= 2 * margin)


def chance_margin(chance: float) -> float:
    """How far from chance a rate may lie that is called at chance."""
    return min(MARGIN, chance / SHARE_OF_CHANCE)


def _find_rule(rows: Rows, chance: float) -> tuple[str, str]:
    """The name that the first rule which holds gives, and the rule with its numbers."""
    exact, follow, rest, compounded = (_value(rows, name) for name in ("exact", "follow", "rest", "compounded"))
    branch, decision, train = (_rate(rows, name) for name in ("branch", "decision", "train_branch"))
    forced, whole = _values(rows, "forced"), _rate(rows, "exact")
    # What a guess of the decision alone is worth, where whole answers take more than that.
    guess = next((row["reference"] for row in (branch, decision) if row is not None and "reference" in row), chance)
    guessed = branch is not None and at_chance(branch, guess)
    if _value(rows, "valid") is not None:
        listed = _list_values(rows, ("creativity", "valid", "novel", "distinct"))
        return "open-ended", f"a prompt has many right answers, so exact decides nothing; {listed}"
    if exact is not None and exact >= SOLVED:
        easy = f"; chance is {chance:.3g}, so there was next to nothing to decide" if chance >= SOLVED else ""
        return "solved", f"exact {_shown(exact, SOLVED)} >= {SOLVED}{easy}"
    if train is not None and branch is not None and guessed and train["low"] > branch["high"]:
        gap = train["value"] - branch["value"]
        if gap >= MEMORY_GAP - ROUNDING:
            return "memorised", (
                f"train_branch {_interval(train)} exceeds branch by {_shown(gap, MEMORY_GAP)} >= {MEMORY_GAP} with "
                f"disjoint intervals, and branch {_interval(branch)} is at chance {guess:.3g}"
            )
    if follow is not None and follow >= RELIABLE and branch is not None and guessed:
        shown = f"follow {_shown(follow, RELIABLE)} >= {RELIABLE}"
        return "clever-hans", f"{shown}, and branch {_interval(branch)} is at chance {guess:.3g}"
    decided = decision is not None and not at_chance(decision, guess)
    if "follow" not in rows and rest is not None and rest >= RELIABLE and decision is not None and not decided:
        shown = f"rest {_shown(rest, RELIABLE)} >= {RELIABLE}"
        return "undecided", f"{shown}, and decision {_interval(decision)} is at chance {guess:.3g}"
    if exact is not None and compounded is not None and forced and min(forced) >= RELIABLE:
        spread = max(1 - each for each in forced) <= sum(1 - each for each in forced) / 2
        if spread and abs(exact - compounded) <= NEAR + ROUNDING:
            return "compounding", (
                f"every forced position is at least {_shown(min(forced), RELIABLE)} >= {RELIABLE}, none holds more "
                f"than half of what is lost, and exact {exact:.3f} is within {NEAR} of compounded {compounded:.3f}"
            )
    if whole is not None and whole["high"] < chance and (rest is None or rest < RELIABLE):
        below = f"exact {_interval(whole)} lies below chance {chance:.3g}"
        return "unfitted", below + ("" if rest is None else f", and rest {_shown(rest, RELIABLE)} < {RELIABLE}")
    near = _list_values(rows, ("exact", "branch", "decision", "follow", "rest")) or "no finite measurement"
    first = branch or decision
    of_decision = f"{guess:.3g} of the decision, " if guess != chance else "the decision "
    where = "" if first is None else f", {of_decision}{_place(first, guess)}"
    return "partial", f"no other rule fits {near}; chance is {chance:.3g}{where}"


def _place(decision: Row, chance: float) -> str:
    if at_chance(decision, chance):
        return "at it"
    around = decision["low"] <= chance <= decision["high"]
    return "at it or off it, of which so few test examples cannot tell (--test)" if around else "off it"


def _list_values(rows: Rows, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name in names if (value := _value(rows, name)) is not None)


def _value(rows: Rows, name: str) -> float | None:
    """The finite value of a scalar row, or None."""
    row = rows.get(name)
    return float(row["value"]) if isinstance(row, dict) and math.isfinite(row["value"]) else None


def _rate(rows: Rows, name: str) -> Row | None:
    """A scalar row whose value and interval are finite, or None."""
    row = rows.get(name)
    if not isinstance(row, dict) or "low" not in row or "high" not in row:
        return None
    return row if all(map(math.isfinite, (row["value"], row["low"], row["high"]))) else None


def _values(rows: Rows, name: str) -> list[float]:
    """The values of a list row; empty where it is absent or holds one that is not finite."""
    row = rows.get(name)
    values = [each["value"] for each in row] if isinstance(row, list) else []
    return values if all(map(math.isfinite, values)) else []


def _interval(row: Row) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _shown(value: float, threshold: float) -> str:
    """``value`` to three decimals, or to as many as keep it on its side of the threshold (0.9499 is not "0.950")."""
    for digits in range(3, 9):
        text = f"{value:.{digits}f}"
        if (float(text) < threshold) == (value < threshold):
            return text
    return repr(value)


PLAIN = {
    "solved": "It solved the task: writing on its own, it gets the whole answer right at least 95 times in 100.",
    "memorised": (
        "It learned its training examples by heart: there it makes the one real decision far more often than on new "
        "examples, where it only guesses."
    ),
    "clever-hans": (
        "It learned a shortcut in place of looking ahead: put on a wrong way it follows that way to the end, but at "
        "the one real decision it guesses."
    ),
    "undecided": (
        "It learned everything but the one real decision, which it guesses. Nothing shows that copying is the cause: "
        "it never saw earlier answer tokens, or the task has no wrong way to put it on."
    ),
    "compounding": (
        "It knows nearly every step when shown the right ones before it, and its whole answers fail about as often as "
        "those small mistakes add up to."
    ),
    "unfitted": (
        "It has not learned even the easy part: it does worse than a solver that guesses only the one real decision."
    ),
    "open-ended": (
        "Many answers are right here, so what counts is how many of those it wrote are valid, new and different from "
        "each other: its creativity."
    ),
    "partial": "It learned a part of the task, and no simple story fits its numbers.",
}


def plain_words(verdict: Verdict) -> str:
    """One sentence for a reader who never read the paper, and one for each doubt."""
    doubts = [f"Not conclusive: {doubt}." for doubt in verdict.doubts]
    return " ".join([PLAIN[verdict.name], *doubts])
