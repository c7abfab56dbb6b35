"""What every drawing shares: one palette, and files that replace others at once.

Colours are Okabe and Ito's colour-blind-safe palette ("Color Universal Design", 2008). Every objective also has its own
dash pattern and marker, so that figures survive a grey printer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foresee.core import files

INK = "#1f2328"
QUIET = "#667085"
FAINT = "#d5d9df"
HIGHLIGHT = "#fbe7a6"
GOAL = "#f0b400"

Dash = Literal["solid"] | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Mark:
    """How one objective is drawn everywhere in a report."""

    colour: str
    dash: Dash
    marker: str
    hue: int
    """The place of ``colour`` in the palette: style sheets have a lighter one of the same hue for dark pages."""

    @property
    def dashes(self) -> str:
        """``dash`` as SVG has it, in pixels and not in widths of the line; empty for a solid line."""
        return "" if self.dash == "solid" else " ".join(f"{each * 1.4:.3g}" for each in self.dash[1])


_FIRST = (
    Mark("#d55e00", "solid", "o", 0),
    Mark("#0072b2", (0, (6.0, 2.0)), "s", 1),
    Mark("#009e73", (0, (6.0, 1.6, 1.2, 1.6)), "^", 2),
    Mark("#cc79a7", (0, (1.4, 1.6)), "D", 3),
    Mark("#7a5195", (0, (9.0, 2.5)), "v", 4),
    Mark("#56b4e9", (0, (4.0, 1.5, 1.2, 1.5, 1.2, 1.5)), "P", 5),
    Mark("#8c6d1f", (0, (3.0, 1.2)), "X", 6),
    Mark("#4d4d4d", (0, (1.0, 3.0)), "h", 7),
)
_MARKS = (
    *_FIRST,
    # Beyond eight objectives colours come again, with the dashes and the marker of another.
    *(Mark(each.colour, _FIRST[at - 5].dash, _FIRST[at - 5].marker, each.hue) for at, each in enumerate(_FIRST)),
    *(Mark(each.colour, _FIRST[at - 3].dash, _FIRST[at - 3].marker, each.hue) for at, each in enumerate(_FIRST)),
)
_HOME = {"next-token": 0, "reversed": 1, "teacherless": 2, "multi-token": 3}


def marks(objectives: Sequence[str]) -> dict[str, Mark]:
    """A mark for each objective spec. The well-known objectives always have the same one; the first spec of a name has
    that name's mark, and the rest take the free ones in alphabetical order."""
    given: dict[str, Mark] = {}
    ordered = sorted(set(objectives))
    for objective in ordered:
        home = _HOME.get(re.split("[: ]", objective)[0])
        if home is not None and _MARKS[home] not in given.values():
            given[objective] = _MARKS[home]
    reserved = {_MARKS[place] for place in _HOME.values()}
    # The marks of well-known objectives that are absent go last, so that they rarely change hands between two reports.
    free = [mark for mark in _MARKS if mark not in reserved] + [mark for mark in _MARKS if mark in reserved]
    free = [mark for mark in free if mark not in given.values()] or list(_MARKS)
    for place, objective in enumerate(each for each in ordered if each not in given):
        given[objective] = free[place % len(free)]
    return given


def plain(text: str, longest: int = 60) -> str:
    """A user's text as figures can show it: control characters replaced, cut to ``longest`` characters."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces ``path`` by ``content``, atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    files.replace_file(path, write)
