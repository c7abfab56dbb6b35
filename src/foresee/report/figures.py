"""The page's figures for papers and slides: each as SVG and PDF, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path

from foresee.report.book import Book
from foresee.report.charts import MEASURES
from foresee.report.choose import choose
from foresee.report.curves import curve_figure, position_figure, supervision_figure, survival_figure
from foresee.report.drawing import star_figure
from foresee.report.plotting import drawing, write_figure

MOST_EXAMPLES = 6
"""Groups of a setting whose example is drawn: matplotlib takes a second for each."""


def write_figures(book: Book, folder: Path) -> None:
    """Writes learning curves, survival curves, accuracy by position, shares of the loss (where runs have them) and the
    drawn example of every setting into ``folder``. Raises ``ForeseeError`` where a file cannot be written."""
    with drawing():
        for place, setting in enumerate(book.settings, start=1):
            end = f"_{place}" if len(book.settings) > 1 else ""
            curves = curve_figure(setting, list(MEASURES), book.marks, columns=len(MEASURES))
            write_figure(curves, folder, f"learning_curves{end}")
            write_figure(survival_figure(setting, book.marks), folder, f"survival{end}")
            groups = [group for group in setting.groups if group.finished]
            if groups:
                positions = position_figure(setting, groups, book.marks, columns=min(3, len(groups)))
                write_figure(positions, folder, f"accuracy_by_position{end}")
            shares = supervision_figure(setting)
            if shares is not None:
                write_figure(shares, folder, f"loss_by_position{end}")
            for number, shown in enumerate(choose(setting.groups)[:MOST_EXAMPLES], start=1):
                if shown.star is not None and shown.walk is not None:
                    drawn = star_figure(shown.star, shown.walk, book.marks[shown.group.name])
                    write_figure(drawn, folder, f"example{end}_{number}")
