"""A study for a person at a terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.text import Text

from foresee.core.spec import shorten
from foresee.experiments.runner import unique
from foresee.experiments.studies.base import TAGS
from foresee.experiments.studies.result import CellResult, SeedResult, StudyResult
from foresee.experiments.studies.run import StudyPlan, describe_minutes, read
from foresee.metrics.significance import Claim
from foresee.training.settings import part_registries
from foresee.training.summary import TONES, find_widths, table_of

CONSTANT = ("graph", "trained with", "row", "chance", "n")
"""What is said once, above the table, where all cells agree on it."""
LISTED = 5
"""Seeds that a table shows each by itself, since a mean alone would hide that outcomes are bimodal."""
COLOURS = {
    "reproduced": "green",
    "not reproduced": "red",
    "mixed": "yellow",
    "budget too short": "yellow",
    "unfinished": "yellow",
}
WHOLE = ("graph", "measured", "solved", "outcome", "seed", "steps")
"""Columns whose lines are never broken; the others are on a narrow terminal, at spaces."""
INTERVAL = len("[0.000, 1.000]")


def show_study(result: StudyResult, console: Console) -> None:
    """Prints published beside measured, what it rests on, and the claims with their tests."""
    say = partial(console.print, markup=False, highlight=False)
    console.print(f"[bold]{result.name}[/bold], {result.scale} scale: {result.question}", highlight=False)
    columns = _columns(result.cells)
    if not result.look_ups:
        del columns["look-ups by"]
    # So that the table fits a narrow screen, what all cells agree on is said once, and some columns share one.
    same = [name for name in CONSTANT if len(set(columns[name])) == 1]
    same += ["published"] * (set(columns["published"]) == {"unknown"})
    alike = {name: columns.pop(name)[0] for name in same}
    if said := ", ".join(f"{name} {value}" for name, value in alike.items() if value):
        say(f"every cell: {said}" if len(result.cells) > 1 else f"the one cell: {said}")
    _share(columns, "chance", "graph", "chance ")
    _share(columns, "row", "trained with", "row ")
    _share(columns, "n", "measured", "n ")
    if not _fits(columns, console.width):
        split = [cell.replace(" [", "\n[").split("\n") for cell in columns["measured"]]
        columns["measured"] = ["\n".join(fill(line, INTERVAL) for line in lines) for lines in split]
        for name in {"graph", "trained with"} & {*columns}:  # at commas, but not within G(2, 5); a spec by its options
            columns[name] = [re.sub(r", (?![^(]*\))|(?<=[:,])(?=\w)", _broken, cell) for cell in columns[name]]
    if not _fits(columns, console.width):
        _share(columns, "trained with", "graph")
    console.print(table_of(columns, zip(*columns.values(), strict=True), console.width, WHOLE))
    say("measured: mean over seeds [lowest to highest end of their 95 % intervals], and each seed by itself")
    for line in _notes(result):
        say(line)
    if result.claims:
        console.print(
            table_of(("shown", "claim, and the test that it rests on"), map(_claim, result.claims), console.width)
        )
        say("p is corrected for all claims of the study (Holm). Not shown is not refuted: few seeds show little.")
    if result.untested:
        others = len(result.untested) - 1
        say(
            f"not tested, since so few runs show nothing of the kind whatever they do: {result.untested[0]}"
            + (f", and {others} like it (--json lists them)" if others else "")
        )
    say(f"cost: {result.cost}; reckoned for: {result.hardware}")
    spent = f"{result.seconds / 60:.0f} minutes of training on CPUs"
    say(f"{result.runs_finished} of {result.runs_wanted} runs finished, {spent}")
    say(f"looked in: {', '.join(result.searched) or 'no folder; there is none of those named'}", soft_wrap=True)
    if left := result.runs_wanted - result.runs_finished:
        say(f"--train trains the {left} that are missing: {describe_minutes(result.minutes_missing)}")
    for warning in result.warnings:
        say(f"left out: {warning}")
    say(f"again: {result.reproduce}", soft_wrap=True)


def show_plan(asked: StudyPlan, console: Console) -> None:
    """Prints what would be trained and what that costs at most."""
    rows = []
    for run in asked.missing:
        minutes = asked.minutes[run.digest]
        parts = [shorten(registry, getattr(run, kind)) for kind, registry in part_registries().items()]
        apart = [re.sub(r"(?<=[:,])", " ", part) for part in parts]  # so that a narrow table can break them
        rows.append((*apart, str(run.seed), str(run.steps), "unknown" if minutes is None else f"{minutes:.1f}"))
    if rows:
        console.print(
            table_of(
                ("task", "trained with", "backbone", "seed", "steps", "minutes at most"), rows, console.width, WHOLE
            )
        )
    spent = describe_minutes(asked.minutes_missing)
    said = f"{len(rows)} of {len(asked.runs)} runs are missing: {spent} ({asked.study.hardware})"
    console.print(said, markup=False, highlight=False)


def show_every(plans: Sequence[StudyPlan], console: Console) -> None:
    """Prints the state of every cell of several studies."""
    for each in plans:
        rows = [
            (cell.graph, cell.label, f"{len(cell.seeds)}/{cell.seeds_wanted}",
             "" if cell.mean is None else f"{cell.row} {cell.mean:.2f}", cell.agreement)
            for cell in read(each).cells
        ]  # fmt: skip
        console.print(f"[bold]{each.resolved.name}[/bold], {each.study.summary}", highlight=False)
        headings = ("graph", "trained with", "runs", "measured", "state")
        console.print(table_of(headings, rows, console.width, headings[2:]))
    every = unique([run for each in plans for run in each.runs])
    missing = unique([run for each in plans for run in each.missing])
    console.print(f"{len(every) - len(missing)} of {len(every)} runs finished", markup=False, highlight=False)


def _share(columns: dict[str, list[Any]], name: str, into: str, lead: str = "") -> None:
    """Moves the cells of one column below those of another, where both are there."""
    if name in columns and into in columns:
        pairs = zip(columns[into], columns.pop(name), strict=True)
        columns[into] = [f"{cell}\n{lead}{each}" if each else cell for cell, each in pairs]


def _broken(found: re.Match[str]) -> str:
    return f"{found[0].rstrip()}\n"


def _fits(columns: dict[str, list[Any]], width: int) -> bool:
    least = [find_widths([name, *map(str, cells)], name in WHOLE)[0] for name, cells in columns.items()]
    return sum(least) + len(least) - 1 <= width


def _columns(cells: tuple[CellResult, ...]) -> dict[str, list[Any]]:
    several_tags = len({cell.tag for cell in cells}) > 1
    return {
        "graph": [cell.graph for cell in cells],
        "trained with": [cell.label for cell in cells],
        "row": [cell.row for cell in cells],
        "chance": [f"{cell.chance:.3g}" for cell in cells],
        "published": [
            cell.published_text + (f" ({cell.tag})" if several_tags and cell.tag != "unknown" else "") for cell in cells
        ],
        "measured": [_measured(cell) for cell in cells],
        "n": [f"{cell.seeds[0].n:,}" if cell.seeds else "" for cell in cells],
        "solved": [_solved(cell.seeds) + _half(cell) for cell in cells],
        "look-ups by": ["\n".join(map(_look_ups, cell.seeds[:LISTED])) for cell in cells],
        "outcome": [_outcome(cell) for cell in cells],
    }


def _measured(cell: CellResult) -> str:
    if cell.mean is None:
        return cell.left[0] if cell.begun else "not run"
    each = [f"{seed.value:.3f}" for seed in cell.seeds[:LISTED]] + ["..."] * (len(cell.seeds) > LISTED)
    lines = [" ".join(each[:3]), " ".join(each[3:]), *cell.left]
    return "\n".join([f"{cell.mean:.3f} [{cell.low:.3f}, {cell.high:.3f}]", *filter(None, lines)])


def _solved(seeds: tuple[SeedResult, ...]) -> str:
    return f"{sum(seed.solved for seed in seeds)} of {len(seeds)}" if seeds else ""


def _look_ups(seed: SeedResult) -> str:
    return f"not by {seed.steps:,}" if seed.look_ups_at is None else f"{seed.look_ups_at:,}"


def _half(cell: CellResult) -> str:
    return "" if not cell.seeds or cell.median_steps is None else f"\nby {cell.median_steps:,.0f}"


def _outcome(cell: CellResult) -> Text:
    """Whether it agrees, and below that its verdicts, with how many seeds have each where they differ."""
    counted = Counter((seed.verdict, "?" * seed.inconclusive) for seed in cell.seeds)
    said = Text(cell.agreement + ("?" if cell.inconclusive else ""), COLOURS.get(cell.agreement, ""))
    for (verdict, doubt), count in counted.items():
        said.append("\n").append(verdict + doubt, TONES[verdict])
        said.append(f"\n  {count} of {len(cell.seeds)}" if len(counted) > 1 else "")
    return said


def _notes(result: StudyResult) -> list[str]:
    doubts = [doubt for cell in result.cells for seed in cell.seeds for doubt in seed.doubts]
    # The command or the numbers that follow are each run's own.
    notes = [f"?, inconclusive: {each}" for each in dict.fromkeys(re.split(r" ?[;(]", doubt)[0] for doubt in doubts)]
    own = {seed.run for cell in result.cells for seed in cell.seeds}
    notes += [
        f"control on {graph} (reversed): {_solved(seeds)} seeds solved, exact "
        + ", ".join(f"{seed.exact:.3f}" for seed in seeds)
        for graph, seeds in dict.fromkeys((cell.graph, cell.controls) for cell in result.cells)
        if not {seed.run for seed in seeds} <= own
    ]
    if any(cell.begun for cell in result.cells):
        notes.append(
            "unfinished: stopped before its last step; counts in the steps to solve, as censored, and in no other claim"
        )
    notes += [f"agreement: {rule}" for rule in dict.fromkeys(cell.rule for cell in result.cells)]
    for source, tag in dict.fromkeys((cell.source, cell.tag) for cell in result.cells):
        notes.append(f"published: {source}" + ("" if tag == "unknown" else f" ({tag}: {TAGS[tag]})"))
    return notes + [f"note: {note}" for note in dict.fromkeys(cell.note for cell in result.cells) if note]


def _claim(claim: Claim) -> tuple[str, Text]:
    found = claim.evidence
    least = " (the least possible)" if found.is_least else ""
    return "yes" if claim.shown else "no", Text(claim.sentence).append(
        f"\n{found.name}: statistic {found.statistic:.3f}, p {probability(found.p)}{least}, "
        f"corrected {probability(claim.corrected)}, n {found.n:,} {found.unit}",
        "dim",
    )


def probability(p: float) -> str:
    """A p-value: three decimals, or its order of magnitude."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p >= 1e-99 else "< 1e-99"
