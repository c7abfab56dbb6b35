"""When a measured cell agrees with a published one. A rule is stated in words wherever its outcome is shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from foresee.experiments.studies.published import Published, side_of
from foresee.metrics.intervals import Row

Agreement = Literal["agrees", "differs", "mixed", "not reached", "unknown", "not run"]
"""``mixed``: some seeds agree and some do not. ``not reached``: no seed of a run smaller than the published one has
come as far as the published statement is about, which refutes nothing: it is published as solved and none solved, or
none has learned even the easy part (verdict ``unfitted``, or ``exact`` below chance). ``unknown``: nothing is published
to compare with. ``not run``: no seed is finished."""


class Rule(ABC):
    """How agreement is judged."""

    says: ClassVar[str]

    @abstractmethod
    def agrees(self, published: Published, row: str, measured: Row, chance: float) -> bool:
        """Whether one seed's row agrees with what is published, which is known."""


class WithinInterval(Rule):
    """For numbers that hold whatever the model: those at chance."""

    says = "the published number, with its stated precision, meets the 95 % interval of each seed, give or take 0.01"

    GIVE = 0.01
    """Twenty seeds would not all hold a true value in their 95 % intervals, nor are the two settings the same."""

    def agrees(self, published: Published, row: str, measured: Row, chance: float) -> bool:
        if published.low is None or published.high is None:
            return published.side == side_of(row, measured["value"], chance)
        return bool(published.low <= measured["high"] + self.GIVE and measured["low"] - self.GIVE <= published.high)


class SameSide(Rule):
    """For settings that differ in size and budget, where only the outcome can be compared."""

    says = (
        "each seed lies on the published side: solved (0.95 or more), at chance, below chance, or between; for follow, "
        "0.9 or more or not"
    )

    def agrees(self, published: Published, row: str, measured: Row, chance: float) -> bool:
        return published.lies(row, chance) == side_of(row, measured["value"], chance)


def judge_agreement(
    rule: Rule,
    published: Published,
    row: str,
    measured: Sequence[Row],
    chance: float,
    *,
    smaller: bool,
    unfitted: bool = False,
) -> Agreement:
    """The outcome over seeds, one measured row a seed; ``smaller`` says that network and budget are below those that
    were published, ``unfitted`` that no seed has learned even the easy part."""
    if not measured:
        return "not run"
    if not published.known:
        return "unknown"
    same = [rule.agrees(published, row, each, chance) for each in measured]
    if all(same):
        return "agrees"
    if any(same):
        return "mixed"
    return "not reached" if smaller and (unfitted or published.lies(row, chance) == "solved") else "differs"
