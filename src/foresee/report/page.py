"""Run directories and studies in, one self-contained page out.

The page asks the network for nothing and runs one script of its own, known to its policy by its digest: text that came
from elsewhere has no way to do anything even if it escaped its escaping. Without the script all of it can be read. It
has no date: the same runs give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.experiments.studies.result import StudyResult
from foresee.report import body
from foresee.report.book import Book
from foresee.report.controls import contents, toolbar
from foresee.report.groups import arrange
from foresee.report.load import read_runs
from foresee.report.markup import text
from foresee.report.tables import write_tables
from foresee.report.words import Section

TITLE = "Does it look ahead?"


def write_report(
    run_dirs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    notes: Mapping[str, str] | None = None,
    studies: Sequence[StudyResult] = (),
    figures: Path | None = None,
    tables: Path | None = None,
    warn: Callable[[str], None] | None = None,
) -> Path:
    """Writes the page ``out`` on runs and studies and returns ``out``; a study's own runs need not be named.

    ``notes`` maps names of run directories to a remark shown wherever the run is (for example, "from committed rows").
    ``figures`` and ``tables`` are folders for the figures as SVG and PDF and the tables as Markdown and LaTeX; neither
    is written unless given. Unfinished runs are shown as far as they are; damaged ones are left out, which the page
    says and ``warn`` is told. Raises ``RequestError`` where a directory does not exist or none can be read, and
    ``ForeseeError`` where a file cannot be written.
    """
    out = Path(out)
    directories = [*map(Path, run_dirs), *(Path(each) for study in studies for each in study.dirs)]
    if not directories and not studies:
        raise RequestError("a report needs at least one run directory, such as runs/0123456789abcdef")
    records, damaged = read_runs(directories)
    for sentence in damaged:
        if warn is not None:
            warn(f"left out: {sentence}")
    book = Book(arrange(records, notes or {}), records, tuple(studies), damaged)
    beside = [folder.name for folder in (figures, tables) if folder is not None]
    if figures is not None:
        from foresee.report.figures import write_figures  # matplotlib takes longer to load than a page to write

        write_figures(book, figures)
    if tables is not None:
        write_tables(book, tables)
    files.write_text(out, page(book, title or TITLE, out.name, beside))
    return out


def page(book: Book, title: str, name: str, beside: Sequence[str] = ()) -> str:
    """The whole page; ``name`` is that of its file and ``beside`` the folders written with it."""
    sections = body.sections(book, name, beside)
    parts = "".join(map(_section, sections))
    script = asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{digest}'"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(title)}</title>'
        f"<style>{asset('page.css')}</style></head>\n<body>{toolbar(book)}<main><h1>{text(title)}</h1>"
        f'<p class="quiet about">{text(body.about(book))}</p>{contents(sections)}{parts}</main>'
        f"<script>{script}</script></body></html>\n"
    )


def _section(each: Section) -> str:
    if not each.heading:
        return f'<section id="{each.name}">{each.html}</section>'
    inside = f"<details open><summary><h2>{each.heading}</h2></summary>{each.html}</details>"
    return f'<section id="{each.name}">{inside}</section>'


@cache
def asset(name: str) -> str:
    """A file of the page's own: its style sheet or its script."""
    return (resources.files("foresee.report") / "assets" / name).read_text(encoding="utf-8")
