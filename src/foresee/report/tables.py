"""Tables for papers and notes, as Markdown and as LaTeX: the same numbers as on the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foresee.core import files
from foresee.experiments.studies.result import StudyResult
from foresee.metrics.survival import kaplan_meier, median
from foresee.report.book import Book
from foresee.report.charts import times_of
from foresee.report.costs import duration, relative, seconds_of
from foresee.report.groups import Group, Setting
from foresee.report.study_section import probability
from foresee.report.words import command, number, rate, verdict_counts


@dataclass(frozen=True)
class Table:
    """``name`` is that of its files; ``caption`` stands above it; ``reproduce`` are the commands that make it
    again."""

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    reproduce: tuple[str, ...]


def write_tables(book: Book, folder: Path) -> list[Path]:
    """Writes every table of a page into ``folder`` as ``NAME.md`` and ``NAME.tex``; returns the paths. The LaTeX needs
    ``booktabs``."""
    written = []
    for table in tables_of(book):
        for ending, content in (("md", markdown(table)), ("tex", latex(table))):
            path = folder / f"{table.name}.{ending}"
            files.write_text(path, content)
            written.append(path)
    return written


def tables_of(book: Book) -> list[Table]:
    """Runs and costs a setting, and of each study its cells and its claims."""
    found = []
    for place, setting in enumerate(book.settings, start=1):
        name = "" if len(book.settings) == 1 else f"_{place}"
        commands = tuple(command(run.record.spec) for group in setting.groups for run in group.runs)
        found.append(Table(f"runs{name}", f"Runs on {book.name_of(setting)}", RUNS,
                           tuple(_run(group) for group in setting.groups), commands))  # fmt: skip
        found.append(Table(f"costs{name}", f"Costs on {book.name_of(setting)}", COSTS,
                           tuple(_cost(book, group, setting) for group in setting.groups), commands))  # fmt: skip
    for study in book.studies:
        slug = re.sub(r"[^A-Za-z0-9]+", "_", f"{study.name}_{study.scale}").strip("_")
        found.append(Table(f"study_{slug}", f"{study.name}, {study.scale} scale: {study.question}", CELLS,
                           _cells(study), (study.reproduce,)))  # fmt: skip
        if study.claims:
            found.append(Table(f"claims_{slug}", f"Claims of {study.name}, {study.scale} scale", CLAIMS,
                               _claims(study), (study.reproduce,)))  # fmt: skip
    return found


RUNS = ("objective", "seeds", "solved", "exact by seed", "branch", "follow", "half solved by step", "verdicts")


def _run(group: Group) -> tuple[str, ...]:
    yes, done = group.solved()
    times = times_of(group)
    half = median(kaplan_meier(times)) if times is not None else None
    names = [name if count == len(group.runs) else f"{name} × {count}" for name, count in verdict_counts(group)]
    by_row = ("; ".join(rate(run.record.rows.get(row)) for run in group.finished) or "–" for row in SCALARS)
    return (
        group.label, str(len(group.runs)), f"{yes} of {done}" if done else "–", *by_row,
        "–" if half is None else f"{half:,.0f}", ", ".join(names),
    )  # fmt: skip


SCALARS = ("exact", "branch", "follow")
COSTS = ("objective", "parameters", "examples/s", "beside next-token", "training time by seed", "steps by seed")


def _cost(book: Book, group: Group, setting: Setting) -> tuple[str, ...]:
    speed, ratio, parameters = group.speed(), relative(group, setting), book.parameters(group)
    return (
        group.label,
        "–" if parameters is None else f"{parameters:,}",
        "–" if speed is None else f"{speed:,.0f}",
        "–" if ratio is None else f"{ratio:.2f}",
        ", ".join(map(duration, seconds_of(group))) or "–",
        ", ".join(f"{run.record.steps_done:,}" for run in group.runs),
    )


CELLS = ("graph", "trained with", "row", "chance", "published", "confidence", "measured by seed", "solved", "agreement")


def _cells(study: StudyResult) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            cell.graph, cell.label, cell.row, f"{cell.chance:.3g}", cell.published_text, cell.tag,
            "; ".join(f"{number(seed.value)} [{number(seed.low)}, {number(seed.high)}]" for seed in cell.seeds)
            or "not run",
            f"{sum(seed.solved for seed in cell.seeds)} of {len(cell.seeds)}" if cell.seeds else "–",
            cell.agreement + (" (inconclusive)" if cell.inconclusive else ""),
        )
        for cell in study.cells
    )  # fmt: skip


CLAIMS = ("claim", "test", "statistic", "p", "corrected p", "n", "shown")


def _claims(study: StudyResult) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            claim.sentence, claim.evidence.name, f"{claim.evidence.statistic:.3f}", probability(claim.evidence.p),
            probability(claim.corrected), f"{claim.evidence.n:,} {claim.evidence.unit}", "yes" if claim.shown else "no",
        )
        for claim in study.claims
    )  # fmt: skip


def markdown(table: Table) -> str:
    """A GitHub table under its caption, with how to reproduce it."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_markdown_text, cells))} |\n"

    return (
        f"{_markdown_text(table.caption)}\n\n{line(table.head)}|{' --- |' * len(table.head)}\n"
        f"{''.join(map(line, table.rows))}\nHow to reproduce:\n\n"
        + "".join(f"    {_one_line(each)}\n" for each in table.reproduce)
    )


def _one_line(value: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in value).split())


def _markdown_text(value: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", _one_line(value)).replace(r"\[", "[").replace(r"\]", "]")


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "×": r"$\times$", "–": "--", "·": r"$\cdot$",
}  # fmt: skip


def _latex_text(value: str) -> str:
    # A bracket that opens a cell would be read as the optional argument of the line break before it.
    return "".join(_LATEX.get(each, each) for each in _one_line(value)).replace("[", "{[}").replace("]", "{]}")


def latex(table: Table) -> str:
    """A ``table`` environment with ``booktabs`` rules."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_latex_text, cells)) + r" \\" + "\n"

    return (
        "% How to reproduce:\n"
        + "".join(f"%   {_one_line(each)}\n" for each in table.reproduce)
        + f"\\begin{{table}}\n\\centering\n"
        f"\\caption{{{_latex_text(table.caption)}}}\n\\begin{{tabular}}{{{'l' * len(table.head)}}}\n\\toprule\n"
        f"{line(table.head)}\\midrule\n{''.join(map(line, table.rows))}\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )
