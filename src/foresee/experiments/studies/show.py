"""A study for a person at a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from foresee.experiments.studies.published import TAGS
from foresee.experiments.studies.result import CellResult, SeedResult, StudyResult
from foresee.experiments.studies.run import Plan
from foresee.metrics.significance import Claim

LISTED = 5
"""Seeds that a table shows each by itself, since a mean alone would hide that outcomes are bimodal."""


def show_study(result: StudyResult, console: Console) -> None:
    """Prints published beside measured, what it rests on, and the claims with their tests."""
    console.print(f"[bold]{result.name}[/bold], {result.scale} scale: {result.question}", highlight=False)
    common, table = _cells(result.cells)
    if common:
        console.print(f"every cell: {common}", markup=False, highlight=False)
    console.print(table)
    console.print(
        "measured: mean over seeds [lowest to highest end of their 95 % intervals]",
        markup=False,
        highlight=False,
    )
    for line in _notes(result):
        console.print(line, markup=False, highlight=False)
    if result.claims:
        console.print(_claims(result.claims))
        console.print(
            "p is corrected for all claims of the study (Holm). Not shown is not refuted: few seeds show little.",
            highlight=False,
        )
    if result.untested:
        console.print(
            f"not tested, since so few runs show nothing of the kind whatever they do: {result.untested[0]}"
            + (f", and {len(result.untested) - 1} like it (--json lists them)" if len(result.untested) > 1 else ""),
            markup=False,
            highlight=False,
        )
    console.print(f"cost: {result.cost}; measured on: {result.hardware}", markup=False, highlight=False)
    console.print(
        f"{result.runs_finished} of {result.runs_wanted} runs finished, {result.seconds / 60:.0f} minutes of training",
        highlight=False,
    )
    for warning in result.warnings:
        console.print(f"left out: {warning}", markup=False, highlight=False)
    console.print(f"again: {result.reproduce}", markup=False, highlight=False, soft_wrap=True)


def show_plan(asked: Plan, console: Console) -> None:
    """Prints what would be trained and what that costs at most."""
    from foresee.backbones.base import backbones
    from foresee.core.spec import brief
    from foresee.objectives.base import objectives
    from foresee.tasks.base import tasks

    shown = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("task", "trained with", "backbone", "seed", "steps", "minutes at most"):
        shown.add_column(heading, overflow="fold")
    for spec in asked.missing:
        minutes = asked.minutes[spec.digest]
        shown.add_row(
            brief(tasks, spec.task), brief(objectives, spec.objective), brief(backbones, spec.backbone),
            str(spec.seed), str(spec.steps), "unknown" if minutes is None else f"{minutes:.1f}",
        )  # fmt: skip
    if asked.missing:
        console.print(shown)
    total = asked.minutes_missing
    spent = "not known" if total is None else f"{total:.0f} minutes of one core at most"
    console.print(
        f"{len(asked.missing)} of {len(asked.specs)} runs are missing: {spent} ({asked.study.hardware})",
        markup=False,
        highlight=False,
    )


def _cells(cells: tuple[CellResult, ...]) -> tuple[str, Table]:
    """What all cells have in common, in a line, and a table of the rest, which so fits a narrow screen."""
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
    alike = [name for name in ("graph", "row", "chance", "n") if len(cells) > 1 and len(set(columns[name])) == 1]
    common = ", ".join(f"{name} {columns.pop(name)[0]}" for name in alike)
    if not any(cell.seeds and cell.median_steps is not None for cell in cells):
        del columns["half solved by"]
    shown = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in columns:
        shown.add_column(heading, overflow="fold", min_width=MIN_WIDTHS.get(heading, 0))
    for row in zip(*columns.values(), strict=True):
        shown.add_row(*row)
    return common, shown


MIN_WIDTHS = {"trained with": 13, "seeds": 5, "agreement": 9, "verdicts": 14}


def _measured(cell: CellResult) -> str:
    if cell.mean is None:
        return "not run"
    missing = cell.seeds_wanted - len(cell.seeds)
    return f"{cell.mean:.3f} [{cell.low:.3f} to {cell.high:.3f}]" + (f", {missing} to run" if missing else "")


def _solved(seeds: tuple[SeedResult, ...]) -> str:
    return f"{sum(seed.solved for seed in seeds)} of {len(seeds)}" if seeds else ""


def _half(cell: CellResult) -> str:
    if not cell.seeds:
        return ""
    return f"step {cell.median_steps:.0f}" if cell.median_steps is not None else "-"


def _verdicts(cell: CellResult) -> str:
    names = [seed.verdict + ("?" if seed.inconclusive else "") for seed in cell.seeds]
    counted = {name: names.count(name) for name in names}
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in counted.items())


def _notes(result: StudyResult) -> list[str]:
    notes = []
    if any(cell.inconclusive for cell in result.cells):
        notes.append("?, inconclusive: the positive control has not been seen to solve within this budget")
    own = {seed.run for cell in result.cells for seed in cell.seeds}
    notes += [
        f"control on {graph} (reversed): {_solved(seeds)} seeds solved, exact {_list([seed.exact for seed in seeds])}"
        for graph, seeds in dict.fromkeys((cell.graph, cell.controls) for cell in result.cells)
        if not {seed.run for seed in seeds} <= own
    ]
    notes += [f"agreement: {rule}" for rule in dict.fromkeys(cell.rule for cell in result.cells)]
    for source, tag in dict.fromkeys((cell.source, cell.tag) for cell in result.cells):
        notes.append(f"published: {source}" + ("" if tag == "unknown" else f" ({tag}: {TAGS[tag]})"))
    notes += [f"note: {note}" for note in dict.fromkeys(cell.note for cell in result.cells) if note]
    return notes


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _claims(claims: tuple[Claim, ...]) -> Table:
    shown = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("shown")
    shown.add_column("claim, and the test that it rests on", overflow="fold")
    for claim in claims:
        found = claim.evidence
        least = "" if found.least is None or found.p > found.least * (1 + 1e-9) else " (the least possible)"
        shown.add_row(
            "yes" if claim.shown else "no",
            f"{claim.sentence}\n[dim]{found.name}: statistic {found.statistic:.3f}, p {probability(found.p)}{least}, "
            f"corrected {probability(claim.corrected)}, n {found.n:,} {found.unit}[/dim]",
        )
    return shown


def probability(p: float) -> str:
    """A p-value: three decimals, or its order of magnitude."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p >= 1e-99 else "< 1e-99"
