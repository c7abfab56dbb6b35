"""How figures look, and how they become files: one palette, one type, the same bytes for the same input.

Colours are Okabe and Ito's colour-blind-safe palette ("Color Universal Design", 2008). Every objective also has its own
dash pattern and marker, so that figures survive a grey printer.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foresee import files

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


_MARKS = (
    Mark("#d55e00", "solid", "o"),
    Mark("#0072b2", (0, (6.0, 2.0)), "s"),
    Mark("#009e73", (0, (6.0, 1.6, 1.2, 1.6)), "^"),
    Mark("#cc79a7", (0, (1.4, 1.6)), "D"),
    Mark("#7a5195", (0, (9.0, 2.5)), "v"),
    Mark("#56b4e9", (0, (4.0, 1.5, 1.2, 1.5, 1.2, 1.5)), "P"),
    Mark("#8c6d1f", (0, (3.0, 1.2)), "X"),
    Mark("#4d4d4d", (0, (1.0, 3.0)), "h"),
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


_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 12,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceef1",
    "grid.linewidth": 0.8,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 11.5,
    "figure.dpi": 72,
    # Outlines, not text: the figure looks the same on every machine, whatever fonts it has.
    "svg.fonttype": "path",
    "svg.hashsalt": "foresee",
    "pdf.fonttype": 42,
    "text.parse_math": False,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Drawing inside gives the same picture whatever a user's ``matplotlibrc`` says."""
    with matplotlib.rc_context():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
            matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def plain(text: str, longest: int = 60) -> str:
    """A user's text as figures can show it: control characters replaced, cut to ``longest`` characters."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def rates_axis(axes: Axes) -> None:
    """A vertical axis for rates: 0 to 1 with a little air, so that lines at either end stay visible."""
    axes.set_ylim(-0.04, 1.06)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])


def render(figure: Figure, kind: str) -> bytes:
    """The figure as ``svg``, ``pdf`` or ``png`` bytes, without dates. Call it inside ``drawing``."""
    stamp: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[kind]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the page's text still shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(buffer, format=kind, metadata=stamp, dpi=200 if kind == "png" else 72)
    return buffer.getvalue()


def write_figure(figure: Figure, folder: Path, name: str) -> bytes:
    """Writes ``name.svg`` and ``name.pdf`` into ``folder``; returns the SVG."""
    drawn = render(figure, "svg")
    write_bytes(folder / f"{name}.svg", drawn)
    write_bytes(folder / f"{name}.pdf", render(figure, "pdf"))
    return drawn


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces ``path`` by ``content``, atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    files.replace_file(path, write)


_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


def inline_svg(drawn: bytes, name: str, description: str) -> str:
    """A figure's SVG file as an element to stand inside HTML.

    Prologue, metadata, style sheet and namespaces are left out; every id gets ``name`` in front, so that no two figures
    of a page share one. ``description`` is what a screen reader says.
    """
    root = ElementTree.fromstring(drawn)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}metadata" or child.tag == f"{_SVG}style":
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            if key == "id":
                value = f"{name}-{value}"
            elif key == _LINK:
                key, value = "href", re.sub(r"^#", f"#{name}-", value)
            else:
                value = re.sub(r"url\(#", f"url(#{name}-", value)
            element.attrib[key] = value
    width = float(root.attrib["width"].removesuffix("pt"))
    root.attrib.pop("width")
    root.attrib.pop("height")
    # Never so small that its type is illegible, never blown up on a wide screen.
    least, most = (f"{width * share:.0f}px" for share in (0.8, 1.3))
    root.attrib["style"] = f"min-width:{least};max-width:{most}"
    root.attrib.update(
        {"role": "img", "aria-label": plain(description, 300)} if description else {"aria-hidden": "true"}
    )
    return ElementTree.tostring(root, encoding="unicode")
