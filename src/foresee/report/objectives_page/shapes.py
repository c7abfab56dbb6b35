"""The few shapes that the drawings are made of, as SVG text: the same bytes for the same input."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from foresee.objectives.diagram import ANSWER, PROMPT
from foresee.report.style import FAINT, INK, QUIET

FONT = "-apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Look:
    """Colours of a cell."""

    fill: str
    edge: str
    ink: str = INK
    dashed: bool = False


FED_PROMPT = Look("#eef0f3", "#a3abb8")
FED_ANSWER = Look("#d6e8f5", "#0072b2")
FED_OTHER = Look("#fdf0c4", "#c99700")
PREDICTED = Look("#d8f0e6", "#009e73")
STATE = Look("#f3e3ee", "#b3588d")
READER = Look("#f6f7f9", FAINT, QUIET)


def absent(look: Look) -> Look:
    """The same where decoding does without it."""
    return Look("#ffffff", look.edge, QUIET, dashed=True)


def number(value: float) -> str:
    """A coordinate, as short as it can be."""
    return f"{value:.1f}".removesuffix(".0")


def document(width: float, height: float, title: str, description: str, body: list[str]) -> str:
    """A whole file: a white card, so that it reads on a dark page too."""
    size = f'width="{number(width)}" height="{number(height)}" viewBox="0 0 {number(width)} {number(height)}"'
    card = (
        f'<rect x="0.5" y="0.5" width="{number(width - 1)}" height="{number(height - 1)}" rx="8" fill="#ffffff" '
        f'stroke="{FAINT}"/>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family={quoteattr(FONT)}>'
    words = [f"<title>{escape(title)}</title>", f"<desc>{escape(description)}</desc>"]
    return "\n".join([head, *words, card, *body, "</svg>", ""])


def fed_look(symbol: str) -> Look:
    """How an input is drawn: a token of the prompt, of the answer, or anything else."""
    if symbol in PROMPT:
        return FED_PROMPT
    return FED_ANSWER if symbol in ANSWER else FED_OTHER


def cell(x: float, y: float, width: float, height: float, symbol: str, look: Look, size: float = 15) -> str:
    """A rounded box with its upper edge at ``y``, centred at ``x``, and a symbol in it."""
    dash = ' stroke-dasharray="4 2.6"' if look.dashed else ""
    box = (
        f'<rect x="{number(x - width / 2)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
        f'rx="{number(min(6, height / 4))}" fill="{look.fill}" stroke="{look.edge}" stroke-width="1.4"{dash}/>'
    )
    # A long symbol must still fit.
    plain = max(1, len(symbol))
    size = min(size, (width - 4) / (0.7 * plain)) if plain > 2 else size
    return box + written(x, y + height / 2 + 0.35 * size, symbol, size, look.ink)


def written(x: float, y: float, symbol: str, size: float, ink: str, anchor: str = "middle", bold: bool = False) -> str:
    """Text with its baseline at ``y``; in symbols such as a2 the number is set low."""
    weight = ' font-weight="600"' if bold else ""
    parts = []
    back = ""  # from the line of a low number to that of the text, at whatever comes next
    for word in filter(None, re.split(r"(\b[a-z]\d\b)", symbol)):
        if re.fullmatch(r"[a-z]\d", word):
            low = f'<tspan dy="{number(0.2 * size)}" font-size="{number(0.68 * size)}">{word[1]}</tspan>'
            parts.append(f'<tspan{back} font-style="italic">{word[0]}</tspan>{low}')
            back = f' dy="{number(-0.2 * size)}"'
        else:
            parts.append(f"<tspan{back}>{escape(word)}</tspan>" if back else escape(word))
            back = ""
    attributes = f'x="{number(x)}" y="{number(y)}" font-size="{number(size)}" text-anchor="{anchor}" fill="{ink}"'
    return f'<text {attributes}{weight} xml:space="preserve">{"".join(parts)}</text>'


def arrow(x: float, start: float, end: float, dropped: bool, aside: float = 0.0) -> str:
    """An arrow up from ``start`` to ``end``, past what stands between them: ``aside`` is how far to the right."""
    ink, dash = (QUIET, ' stroke-dasharray="3 2.4"') if dropped else (INK, "")
    head = f"M{number(x - 3.4)} {number(end + 6)}L{number(x)} {number(end)}L{number(x + 3.4)} {number(end + 6)}"
    way = f"M{number(x + aside)} {number(start)}V{number(end + 1)}"
    if aside:
        bend = end + 13
        way = (
            f"M{number(x + aside)} {number(start)}V{number(bend + 4)}q0 -4 -4 -4"
            f"H{number(x + 4)}q-4 0 -4 -4V{number(end + 1)}"
        )
    return (
        f'<path d="{way}" stroke="{ink}" stroke-width="1.3" fill="none"{dash}/>'
        f'<path d="{head}" stroke="{ink}" stroke-width="1.3" fill="none" stroke-linejoin="round"/>'
    )


def line(x: float, start: float, end: float) -> str:
    """A plain line straight up."""
    return f'<path d="M{number(x)} {number(start)}V{number(end)}" stroke="{QUIET}" stroke-width="1.2" fill="none"/>'
