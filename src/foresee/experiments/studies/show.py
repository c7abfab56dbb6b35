"""A study for a person at a terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from rich import box
from rich.console import Console
from rich.table import Table

from foresee.experiments.studies.base import TAGS
from foresee.experiments.studies.result import CellResult, SeedResult, StudyResult
from foresee.experiments.studies.run import Plan
from foresee.metrics.significance import Claim

LISTED = 5
"""Seeds that a table shows each by itself, since a mean alone would hide that outcomes are bimodal."""
MIN_WIDTHS = {"trained with": 13, "seeds": 5, "agreement": 9, "verdicts": 14}


def show_study(result: StudyResult, console: Console) -> None:
    """Prints published beside measured, what it rests on, and the claims with their tests."""
    say = partial(console.print, markup=False, highlight=False)
    console.print(f"[bold]{result.name}[/bold], {result.scale} scale: {result.question}", highlight=False)
    columns = _columns(result.cells)
    alike = [
        name for name in ("graph", "row", "chance", "n") if len(result.cells) > 1 and len(set(columns[name])) == 1
    ]  # fmt: skip
    if alike:  # so that the table fits a narrow screen
        say("every cell: " + ", ".join(f"{name} {columns.pop(name)[0]}" for name in alike))
    console.print(_table(columns, zip(*columns.values(), strict=True), MIN_WIDTHS))
    say("measured: mean over seeds [lowest to highest end of their 95 % intervals]")
    for line in _notes(result):
        say(line)
    if result.claims:
        console.print(_table(("shown", "claim, and the test that it rests on"), map(_claim, result.claims)))
        say("p is corrected for all claims of the study (Holm). Not shown is not refuted: few seeds show little.")
    if result.untested:
        others = len(result.untested) - 1
        say(
            f"not tested, since so few runs show nothing of the kind whatever they do: {result.untested[0]}"
            + (f", and {others} like it (--json lists them)" if others else "")
        )
    say(f"cost: {result.cost}; measured on: {result.hardware}")
    say(
        f"{result.runs_finished} of {result.runs_wanted} runs finished, {result.seconds / 60:.0f} minutes of training"
    )  # fmt: skip
    for warning in result.warnings:
        say(f"left out: {warning}")
    say(f"again: {result.reproduce}", soft_wrap=True)


def show_plan(asked: Plan, console: Console) -> None:
    """Prints what would be trained and what that costs at most."""
    from foresee.backbones.base import backbones
    from foresee.core.spec import brief
    from foresee.objectives.base import objectives
    from foresee.tasks.base import tasks

    rows = []
    for run in asked.missing:
        minutes = asked.minutes[run.digest]
        rows.append(
            (brief(tasks, run.task), brief(objectives, run.objective), brief(backbones, run.backbone), str(run.seed),
             str(run.steps), "unknown" if minutes is None else f"{minutes:.1f}")
        )  # fmt: skip
    if rows:
        console.print(_table(("task", "trained with", "backbone", "seed", "steps", "minutes at most"), rows))
    total = asked.minutes_missing
    spent = "not known" if total is None else f"{total:.0f} minutes of one core at most"
    said = f"{len(rows)} of {len(asked.runs)} runs are missing: {spent} ({asked.study.hardware})"
    console.print(said, markup=False, highlight=False)


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]], widths: Mapping[str, int] | None = None) -> Table:
    shown = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        shown.add_column(heading, overflow="fold", min_width=(widths or {}).get(heading))
    for row in rows:
        shown.add_row(*row)
    return shown


def _columns(cells: tuple[CellResult, ...]) -> dict[str, list[str]]:
    columns = {
        "graph": [cell.graph for cell in cells],
        "trained with": [cell.label for cell in cells],
        "row": [cell.row for cell in cells],
        "chance": [f"{cell.chance:.3g}" for cell in cells],
        "published": [cell.published_text + ("" if cell.tag == "unknown" else f" ({cell.tag})") for cell in cells],
        "measured": [_measured(cell) for cell in cells],
        "seeds": [_list([seed.value for seed in cell.seeds[:LISTED]]) for cell in cells],
        "n": [f"{cell.seeds[0].n:,}" if cell.seeds else "" for cell in cells],
        "solved": [_solved(cell.seeds) for cell in cells],
        "half solved by": [_half(cell) for cell in cells],
        "agreement": [cell.agreement + (" (inconclusive)" if cell.inconclusive else "") for cell in cells],
        "verdicts": [_verdicts(cell) for cell in cells],
    }
    if all(each in ("", "-") for each in columns["half solved by"]):
        del columns["half solved by"]
    return columns


def _measured(cell: CellResult) -> str:
    if cell.mean is None:
        return "not run"
    missing = cell.seeds_wanted - len(cell.seeds)
    return f"{cell.mean:.3f} [{cell.low:.3f} to {cell.high:.3f}]" + (f", {missing} to run" if missing else "")


def _solved(seeds: tuple[SeedResult, ...]) -> str:
    return f"{sum(seed.solved for seed in seeds)} of {len(seeds)}" if seeds else ""


def _half(cell: CellResult) -> str:
    return "" if not cell.seeds else "-" if cell.median_steps is None else f"step {cell.median_steps:.0f}"


def _verdicts(cell: CellResult) -> str:
    counted = Counter(seed.verdict + ("?" if seed.inconclusive else "") for seed in cell.seeds)
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in counted.items())


def _notes(result: StudyResult) -> list[str]:
    doubts = [doubt for cell in result.cells for seed in cell.seeds for doubt in seed.doubts]
    # The command or the numbers that follow are each run's own.
    notes = [f"?, inconclusive: {each}" for each in dict.fromkeys(re.split(r" ?[;(]", doubt)[0] for doubt in doubts)]
    own = {seed.run for cell in result.cells for seed in cell.seeds}
    notes += [
        f"control on {graph} (reversed): {_solved(seeds)} seeds solved, exact {_list([seed.exact for seed in seeds])}"
        for graph, seeds in dict.fromkeys((cell.graph, cell.controls) for cell in result.cells)
        if not {seed.run for seed in seeds} <= own
    ]
    notes += [f"agreement: {rule}" for rule in dict.fromkeys(cell.rule for cell in result.cells)]
    for source, tag in dict.fromkeys((cell.source, cell.tag) for cell in result.cells):
        notes.append(f"published: {source}" + ("" if tag == "unknown" else f" ({tag}: {TAGS[tag]})"))
    return notes + [f"note: {note}" for note in dict.fromkeys(cell.note for cell in result.cells) if note]


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _claim(claim: Claim) -> tuple[str, str]:
    found = claim.evidence
    least = "" if found.least is None or found.p > found.least * (1 + 1e-9) else " (the least possible)"
    return "yes" if claim.shown else "no", (
        f"{claim.sentence}\n[dim]{found.name}: statistic {found.statistic:.3f}, p {probability(found.p)}{least}, "
        f"corrected {probability(claim.corrected)}, n {found.n:,} {found.unit}[/dim]"
    )


def probability(p: float) -> str:
    """A p-value: three decimals, or its order of magnitude."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p >= 1e-99 else "< 1e-99"
