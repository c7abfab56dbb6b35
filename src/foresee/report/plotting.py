"""How matplotlib draws figures for papers and slides: the same bytes for the same input."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foresee.report.style import INK, QUIET, write_bytes

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
