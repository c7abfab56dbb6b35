"""How figures look, on light and dark pages, and how they become files.

Colours are Okabe and Ito's ("Color Universal Design", 2008). Every objective has a dash pattern too, so that figures
survive a grey printer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from foresee.core import files
from foresee.core.errors import RequestError

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

FONT = "DejaVu Sans, Verdana, sans-serif"
CONFIG: dict[str, Any] = {
    "background": None,
    "font": FONT,
    "view": {"stroke": None, "continuousWidth": 300, "continuousHeight": 170},
    "axis": {
        "gridColor": FAINT, "gridOpacity": 0.6, "domainColor": QUIET, "tickColor": FAINT, "labelColor": QUIET,
        "titleColor": QUIET, "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 11.5,
    },
    "legend": {"labelColor": INK, "titleColor": QUIET, "titleFontWeight": "normal", "labelLimit": 320,
               "symbolStrokeWidth": 2, "symbolSize": 220},
    "title": {"anchor": "start", "color": INK, "fontSize": 12.5, "offset": 8},
    "line": {"strokeWidth": 1.9, "strokeJoin": "round"},
    "rule": {"color": INK},
    "text": {"color": INK},
}  # fmt: skip
"""How all charts look, on a light ground."""
KINDS = ("svg", "png", "pdf")


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


def spec_of(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """A chart as Vega-Lite's JSON, without the look, which is ``CONFIG``; control characters, on which vl-convert ends
    the whole process, are replaced."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {clean(name): clean(each) for name, each in value.items()}
        if isinstance(value, list):
            return [clean(each) for each in value]
        return printable(value) if isinstance(value, str) else value

    return {
        name: clean(value) for name, value in chart.to_dict(validate=False).items() if name not in ("config", "$schema")
    }


def printable(text: str) -> str:
    """Text in which what cannot be shown, such as a control character, is a question mark."""
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)
    )


def draw_svg(chart: alt.TopLevelMixin) -> str:
    """A chart as an SVG document."""
    return str(vl_convert.vegalite_to_svg(spec_of(chart), config={**CONFIG, "background": "white"}))


def write_svg(drawn: str, out: Path) -> Path:
    """Writes an SVG document, or makes a PDF or PNG of it, by the ending of ``out``; refuses any other."""
    kind = out.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise RequestError(f"{out}: a picture's name must end in .svg, .png or .pdf")
    if kind == "pdf":
        content = vl_convert.svg_to_pdf(drawn)
    else:
        content = drawn.encode() if kind == "svg" else vl_convert.svg_to_png(drawn, scale=2)
    files.replace_file(out, lambda temporary: temporary.write_bytes(content))
    return out
