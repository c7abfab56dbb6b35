"""A published result as it can be cited: how exactly it is known, from where, and how far that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from foresee.metrics.verdict import NEAR, RELIABLE, SOLVED

TAGS = {
    "RI": "a reproducibility page that quotes the paper",
    "DIG": "second-hand: a digest of the paper that cites its tables by number; the paper's own cells were not seen",
    "NVT": "Noroozizadeh et al. (arXiv 2510.26745), by an author of the paper",
    "ABS": "the paper's abstract",
    "SEM": "scripts of the Semformer authors, who rebuilt the paper's experiments",
    "P": "read in the paper itself",
    "D": "read off a figure by a third party, to 1 or 2 points",
    "N": "notes or a replication by a third party, not checked against the paper",
    "unknown": "no published number is known to us",
}
"""What a confidence tag means."""

SIDES = ("solved", "chance", "below chance", "between", "followed", "not followed")
"""Where a result lies. ``exact`` and ``branch``: solved (0.95 or more), at chance (within 0.05 of it; for chances below
0.1 within half of it), below that, or between. ``follow``: followed (0.9 or more) or not."""


@dataclass(frozen=True)
class Published:
    """``low`` and ``high`` bound what is known, the number's own rounding included; both None where only words are, or
    nothing. ``text`` is how a table shows it."""

    text: str
    low: float | None
    high: float | None
    source: str
    tag: str
    side: str | None = None
    """Where it lies, where that is said in words alone."""

    def __post_init__(self) -> None:
        if self.tag not in TAGS or not self.source or not self.text:
            raise ValueError(f"a published result needs a text, a source and one of the tags {', '.join(TAGS)}")
        if (self.low is None) != (self.high is None) or (self.side is not None and self.side not in SIDES):
            raise ValueError(f"published result {self.text!r}: give both bounds or none, and a side out of {SIDES}")

    @property
    def value(self) -> float | None:
        """The middle of what is known, or None."""
        return None if self.low is None or self.high is None else (self.low + self.high) / 2

    @property
    def known(self) -> bool:
        """Whether there is anything to compare with."""
        return self.low is not None or self.side is not None

    def lies(self, row: str, chance: float) -> str | None:
        """Its side: as said, or as its number has it; None where nothing is known."""
        return self.side if self.value is None else side_of(row, self.value, chance)


def percent(value: float, source: str, tag: str, *, decimals: int = 1, off: float = 0.0) -> Published:
    """A number printed in percent with so many decimals, of which the last is rounded; ``off`` percentage points more
    where it was read off a figure."""
    slack = 0.5 * 10.0**-decimals + off
    return Published(f"{value / 100:.{decimals + 2}f}", max(0.0, value - slack) / 100, min(100.0, value + slack) / 100,
                     source, tag)  # fmt: skip


def percents(low: float, high: float, source: str, tag: str) -> Published:
    """A range over several cells, printed in whole percent: which of them is this cell's is not known."""
    return Published(f"{low / 100:.2f} to {high / 100:.2f}", max(0.0, low - 0.5) / 100, min(100.0, high + 0.5) / 100,
                     source, tag)  # fmt: skip


def words(text: str, side: str, source: str, tag: str) -> Published:
    """A result of which only words are known."""
    return Published(text, None, None, source, tag, side)


def unknown(source: str) -> Published:
    """No number and no words; ``source`` says what was looked for."""
    return Published("unknown", None, None, source, "unknown")


def side_of(row: str, value: float, chance: float) -> str:
    """Where a measured or published value of a row lies (``SIDES``)."""
    if row.startswith("follow"):
        return "followed" if value >= RELIABLE else "not followed"
    near = min(NEAR, chance / 2)
    if value >= SOLVED:
        return "solved"
    if abs(value - chance) <= near + 1e-9:
        return "chance"
    return "below chance" if value < chance else "between"
