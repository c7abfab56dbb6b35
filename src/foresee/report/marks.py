"""How an objective is drawn everywhere: one colour-blind-safe palette, and for each colour its twin on a dark page.

Colours are Okabe and Ito's ("Color Universal Design", 2008). Every objective has a dash pattern too, so that figures
survive a grey printer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

INK, QUIET, FAINT = "#1f2328", "#667085", "#d5d9df"
BAND, GOAL, BRANCH, BLUE = "#fbe7a6", "#f0b400", "#d55e01", "#2f7fc1"
GREYS = ("#c3ccd6", "#dde3ea")
HUES = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#7a5195", "#56b4e9", "#8c6d1f", "#4d4d4d")
DARK = {
    INK: "#e6e9ed", QUIET: "#a3adb8", FAINT: "#303740", BAND: "#5c4c12", GOAL: "#f0b400", BRANCH: "#ff8a3d",
    BLUE: "#4f9fe0", GREYS[0]: "#46515d", GREYS[1]: "#333c46",
    **dict(zip(HUES, ("#ff8a3d", "#5db4ee", "#3cc79a", "#e59cc6", "#b892d6", "#8fd0f7", "#cfae56", "#b4bac1"),
               strict=True)),
}  # fmt: skip
"""What the page's script puts in place of each colour of a chart where the page is dark."""

DASHES: tuple[tuple[float, ...], ...] = (
    (), (8.4, 2.8), (8.4, 2.2, 1.7, 2.2), (2, 2.2), (12.6, 3.5), (5.6, 2.1, 1.7, 2.1, 1.7, 2.1), (4.2, 1.7), (1.4, 4.2),
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A colour of ``HUES`` and a dash pattern in pixels, empty for a solid line."""

    hue: int
    dashes: tuple[float, ...]

    @property
    def colour(self) -> str:
        """The colour on a light ground."""
        return HUES[self.hue]


# Beyond eight objectives colours come again, with the dashes of another.
_MARKS = tuple(Mark(hue, DASHES[(hue + shift) % 8]) for shift in (0, 3, 5) for hue in range(8))
_HOME = {"next-token": 0, "reversed": 1, "teacherless": 2, "multi-token": 3}


def assign_marks(objectives: Sequence[str]) -> dict[str, Mark]:
    """A mark for each objective spec. The well-known objectives always have the same one; the first spec of a name has
    that name's mark, and the rest take the free ones in alphabetical order."""
    given: dict[str, Mark] = {}
    ordered = sorted(set(objectives))
    for objective in ordered:
        home = _HOME.get(re.split("[: ]", objective)[0])
        if home is not None and _MARKS[home] not in given.values():
            given[objective] = _MARKS[home]
    # The marks of well-known objectives that are absent go last, so that they rarely change hands between two reports.
    free = [mark for mark in (*_MARKS[4:], *_MARKS[:4]) if mark not in given.values()] or list(_MARKS)
    for place, objective in enumerate(each for each in ordered if each not in given):
        given[objective] = free[place % len(free)]
    return given
