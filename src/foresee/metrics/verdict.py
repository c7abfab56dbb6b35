"""What a run's measurements say happened: one name, and the rule that gave it with its numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from foresee.metrics.base import Row, Rows

SOLVED = 0.95
"""Least ``exact`` of a solved task."""
RELIABLE = 0.9
"""Least rate of something that a model can be said to do: follow an arm, step along edges, know a token."""
NEAR = 0.05
"""How far apart two rates may be that count as equal."""
MEMORY_GAP = 0.2
"""Least gap between ``train_branch`` and ``branch`` that counts as memorising."""

ROUNDING = 1e-9
"""Differences of rates are compared with this slack, so that 0.7 - 0.5 is at least 0.2."""

NEED_NO_CONTROL = ("solved", "open-ended")
"""Verdicts that a budget too small cannot have caused."""

REASONS_FOR_NONE = ("exact", "follow", "branch", "compounded", "child")


@dataclass(frozen=True)
class Verdict:
    """``name`` is solved, memorised, clever-hans, compounding, unfitted, partial or open-ended;
    ``inconclusive`` says that the positive control has not been seen to solve, so that a verdict other than solved
    proves nothing; ``because`` is one sentence with the rule that fired and its numbers."""

    name: str
    inconclusive: bool
    because: str

    @property
    def label(self) -> str:
        """The name, marked where it is inconclusive."""
        return self.name + (" (inconclusive)" if self.inconclusive else "")

    def json(self) -> dict[str, Any]:
        """As it stands in ``--json`` output."""
        return asdict(self)


def judge(rows: Rows, chance: float, control_solved: bool | None) -> Verdict:
    """The verdict on a run's rows (DESIGN section 5). The first rule that holds gives the name:

    1. ``solved``: ``exact`` >= 0.95.
    2. ``memorised``: ``train_branch`` - ``branch`` >= 0.2, the low end of ``train_branch`` lies above the high end of
       ``branch`` (disjoint intervals), and ``branch`` holds chance: low <= ``chance`` <= high of its interval.
    3. ``clever-hans``: ``follow`` >= 0.9, and ``branch`` holds chance or its whole interval lies within 0.05 of it.
    4. ``compounding``: every ``forced[i]`` >= 0.9, and ``exact`` at most 0.05 from ``compounded``, either way.
    5. ``unfitted``: ``child`` < 0.9 and ``exact`` < ``chance``.
    6. ``partial``: anything else.

    A task with many right answers to one prompt (it has a row ``valid``) has none of these: its verdict is
    ``open-ended``, which only repeats how creative the answers were. DESIGN section 5 does not speak of such tasks.

    Rates are compared by their values; intervals count only where a rule names them. A rule cannot fire where one of
    its rows is absent or not a finite number. A small ``n`` gives a wide interval, which holds chance easily: see ``n``
    before trusting rules 2 and 3.

    ``control_solved`` says whether reversed training on the same task, backbone and budget solved; None where it was
    not run. Any verdict but solved is inconclusive unless it is True.
    """
    found = (
        _open_ended(rows)
        or _solved(rows)
        or _memorised(rows, chance)
        or _clever_hans(rows, chance)
        or _compounding(rows)
        or _unfitted(rows, chance)
        or ("partial", _no_rule(rows, chance))
    )
    name, because = found
    return Verdict(name, name not in NEED_NO_CONTROL and control_solved is not True, because)


Found = tuple[str, str] | None


def _open_ended(rows: Rows) -> Found:
    if _value(rows, "valid") is None:
        return None
    measured = ((name, _value(rows, name)) for name in ("creativity", "valid", "novel", "distinct"))
    listed = ", ".join(f"{name} {value:.3f}" for name, value in measured if value is not None)
    return "open-ended", f"a prompt has many right answers, so exact decides nothing; {listed}"


def _solved(rows: Rows) -> Found:
    exact = _value(rows, "exact")
    if exact is None or exact < SOLVED:
        return None
    return "solved", f"exact {_shown(exact, SOLVED)} >= {SOLVED}"


def _memorised(rows: Rows, chance: float) -> Found:
    train, branch = _rate(rows, "train_branch"), _rate(rows, "branch")
    if train is None or branch is None or not _holds(branch, chance):
        return None
    gap = train["value"] - branch["value"]
    if gap < MEMORY_GAP - ROUNDING or train["low"] <= branch["high"]:
        return None
    return "memorised", (
        f"train_branch {_interval(train)} exceeds branch by {_shown(gap, MEMORY_GAP)} >= {MEMORY_GAP} with disjoint "
        f"intervals, and branch {_interval(branch)} holds chance {chance:.3g}"
    )


def _clever_hans(rows: Rows, chance: float) -> Found:
    follow, branch = _value(rows, "follow"), _rate(rows, "branch")
    if follow is None or branch is None or follow < RELIABLE:
        return None
    if _holds(branch, chance):
        how = f"holds chance {chance:.3g}"
    elif chance - NEAR - ROUNDING <= branch["low"] and branch["high"] <= chance + NEAR + ROUNDING:
        how = f"lies within {NEAR} of chance {chance:.3g}"
    else:
        return None
    return "clever-hans", f"follow {_shown(follow, RELIABLE)} >= {RELIABLE}, and branch {_interval(branch)} {how}"


def _compounding(rows: Rows) -> Found:
    exact, compounded, least = _value(rows, "exact"), _value(rows, "compounded"), _least(rows, "forced")
    if exact is None or compounded is None or least is None or least < RELIABLE:
        return None
    if abs(exact - compounded) > NEAR + ROUNDING:
        return None
    return "compounding", (
        f"every forced position is at least {_shown(least, RELIABLE)} >= {RELIABLE}, and exact {exact:.3f} is within "
        f"{NEAR} of compounded {compounded:.3f}"
    )


def _unfitted(rows: Rows, chance: float) -> Found:
    child, exact = _value(rows, "child"), _value(rows, "exact")
    if child is None or exact is None or child >= RELIABLE or exact >= chance:
        return None
    below = f"exact {_shown(exact, chance)} < chance {chance:.3g}"
    return "unfitted", f"child {_shown(child, RELIABLE)} < {RELIABLE}, and {below}"


def _no_rule(rows: Rows, chance: float) -> str:
    measured = []
    for name in REASONS_FOR_NONE:
        value = _value(rows, name)
        if value is not None:
            measured.append(f"{name} {value:.3f}")
    listed = ", ".join(measured) or "no finite measurement"
    return f"no other rule fits {listed}, at chance {chance:.3g}"


def _value(rows: Rows, name: str) -> float | None:
    """The finite value of a scalar row, or None."""
    row = rows.get(name)
    if not isinstance(row, dict):
        return None
    return float(row["value"]) if math.isfinite(row["value"]) else None


def _rate(rows: Rows, name: str) -> Row | None:
    """A scalar row whose value and interval are finite, or None."""
    row = rows.get(name)
    if not isinstance(row, dict) or not {"value", "low", "high"} <= row.keys():
        return None
    return row if all(math.isfinite(row[key]) for key in ("value", "low", "high")) else None


def _least(rows: Rows, name: str) -> float | None:
    """The least value of a list row, or None where it is absent, empty or holds one that is not finite."""
    row = rows.get(name)
    values = [each["value"] for each in row] if isinstance(row, list) else []
    return min(values) if values and all(map(math.isfinite, values)) else None


def _holds(row: Row, chance: float) -> bool:
    return bool(row["low"] <= chance <= row["high"])


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
        "It learned a shortcut in place of looking ahead: put on any path it follows that path, wherever the goal is, "
        "but at the one real decision it guesses."
    ),
    "compounding": (
        "It knows nearly every step when shown the right ones before it, and its whole answers fail about as often as "
        "those small mistakes add up to."
    ),
    "unfitted": (
        "It has not learned even the easy part: it often steps where the graph has no edge and does worse than a "
        "solver that guesses only the one real decision."
    ),
    "open-ended": (
        "Many answers are right here, so what counts is how many of those it wrote are valid, new and different from "
        "each other: its creativity."
    ),
    "partial": "It learned a part of the task, and no simple story fits its numbers.",
}

CAVEAT = (
    "This is not conclusive: reversed training within the same budget, the positive control, has not been seen to "
    "solve the task, so the budget may be too small."
)


def plain_words(verdict: Verdict) -> str:
    """One sentence for a reader who never read the paper, and a second one where the verdict is inconclusive."""
    return f"{PLAIN[verdict.name]} {CAVEAT}" if verdict.inconclusive else PLAIN[verdict.name]
