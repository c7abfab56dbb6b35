"""Tables for a person at a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foresee.backbones.base import backbones
from foresee.core.errors import RequestError
from foresee.core.spec import brief
from foresee.datasets.inspection import DataSummary
from foresee.experiments.compare import Group
from foresee.metrics.intervals import Row
from foresee.metrics.verdict import SOLVED, Verdict, plain_words
from foresee.objectives.base import objectives
from foresee.tasks.base import tasks
from foresee.training.run import Run
from foresee.training.run_table import SHOWN, runs_table, table_records, without_common


def table_of(*headings: str) -> Table:
    """A table that is as narrow as its contents allow."""
    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def verdict_of(verdict: Verdict) -> str:
    """Its name, and whether it is inconclusive."""
    return verdict.name + (" (inconclusive)" if verdict.inconclusive else "")


def show_run(run: Run, console: Console) -> None:
    """Prints rows, verdict and what it means."""
    table = Table("measure", "value", "95 % interval", "n", "problems")
    table.title, table.title_justify = f"{run.spec.objective} on {run.spec.task}", "left"
    for name, row in run.rows.items():
        if isinstance(row, list):
            for place, one in enumerate(row):
                table.add_row(f"{name}[{one.get('distance', place)}]", *_measurement(one))
        else:
            table.add_row(name, *_measurement(row))
    console.print(table)
    verdict = run.verdict  # looks through the folders beside it for witnesses
    console.print(f"verdict: {verdict_of(verdict)}")
    console.print(f"because: {verdict.because}", markup=False)
    console.print(plain_words(verdict), markup=False)
    console.print(f"run: {run.dir}", markup=False, soft_wrap=True)


def _measurement(row: Row) -> tuple[str, str, str, str]:
    interval = f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else ""
    if "reference" in row:
        interval = f"beside {row['reference']:.4f}"
    problems = f"{row['problems']:,}" if row.get("problems", row["n"]) != row["n"] else ""
    return f"{row['value']:.4f}", interval, f"{row['n']:,}", problems


def show_groups(groups: Sequence[Group], title: str, console: Console) -> None:
    """Prints objectives beside each other: a line a seed, since outcomes are bimodal, then the share that solved."""
    table = table_of("objective", "seed", "exact", "branch", "follow", "solved at", "verdict")
    table.title, table.title_justify = title, "left"
    for group in groups:
        name = brief(objectives, group.objective)
        for place, (run, exact, at) in enumerate(zip(group.runs, group.exact, group.steps_to_solve, strict=True)):
            table.add_row(
                "" if place else name, str(run.spec.seed), f"{exact:.3f}", _rate(run, "branch"), _rate(run, "follow"),
                "-" if at is None else f"step {at}", verdict_of(run.verdict),
            )  # fmt: skip
        table.add_section()
    console.print(table)
    doubts = dict.fromkeys(doubt for group in groups for run in group.runs for doubt in run.verdict.doubts)
    for doubt in doubts:
        console.print(f"inconclusive: {doubt}", markup=False, soft_wrap=True)
    for group in groups:
        share, solved = group.solved, sum(exact >= SOLVED for exact in group.exact)
        console.print(
            f"{brief(objectives, group.objective)}: {solved} of {len(group.runs)} seeds solved "
            f"(95 % interval {share['low']:.2f} to {share['high']:.2f})",
            markup=False,
        )


def _rate(run: Run, row: str) -> str:
    found = run.rows.get(row)
    return f"{found['value']:.3f}" if isinstance(found, dict) else "-"


def show_findings(runs: Sequence[Run], console: Console) -> None:
    """Prints what each run of the demo shows."""
    for run in runs:
        console.print(f"[bold]{run.spec.objective.partition(':')[0]}[/bold] on {run.spec.task}")
        parts = [f"exact {_rate(run, 'exact')} (chance {run.task.chance:.2f})"]
        parts += [f"{name} {_rate(run, name)}" for name in ("branch", "follow") if name in run.rows]
        console.print(f"  {', '.join(parts)}, {run.steps} steps, {run.seconds:.0f} s")
        verdict = run.verdict
        console.print(f"  {verdict.name}: {plain_words(verdict)}", markup=False)


def show_plan(listed: Sequence[Mapping[str, str]], plan: str, console: Console) -> None:
    """Prints the runs of a sweep and how they would be trained."""
    for each in listed:
        console.print(f"{each['run']}  {each['state']:<9} {each['command']}", markup=False, soft_wrap=True)
    console.print(f"{len(listed)} runs; {plan}", markup=False, soft_wrap=True)


def show_finished(runs: Sequence[Run], console: Console) -> None:
    """Prints finished runs, one a line."""
    show_records(table_records(runs_table(runs)), SHOWN, console)


COMMON = ("state", "task", "objective", "backbone")
"""Columns that are said once, above the table, where all runs agree on them."""


def show_records(
    records: Sequence[Mapping[str, Any]], columns: Sequence[str], console: Console, *, brief_columns: bool = True
) -> None:
    """Prints rows of a table of runs; what all agree on once, above it, where ``brief_columns``."""
    cells = {name: _column(name, [record.get(name) for record in records]) for name in columns}
    doubted = [bool(record.get("inconclusive")) for record in records]
    if "verdict" in cells:
        cells["verdict"] = [name + "?" * doubt for name, doubt in zip(cells["verdict"], doubted, strict=True)]
    if brief_columns and len(records) > 1:
        for name in COMMON:
            if len(set(cells.get(name, ("", "-")))) == 1:
                console.print(f"{name}: {cells.pop(name)[0]}", markup=False, soft_wrap=True)
    table = table_of(*cells)
    for name, column in zip(cells, table.columns, strict=True):
        column.no_wrap = name not in COMMON
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(escape, row))
    console.print(table)
    note = "; ?: inconclusive, `foresee evaluate RUN` says why" if any(doubted) and "verdict" in columns else ""
    console.print(f"{len(records)} run{'s' * (len(records) != 1)}{note}", markup=False, soft_wrap=True)


def _column(name: str, values: Sequence[Any]) -> list[str]:
    """Cells for a terminal: rates to three places, specs by what tells them apart."""
    if name in COMMON[1:] and None not in values:
        short = [_brief(name, value) for value in values]
        return short if len(set(short)) == 1 else without_common(short)
    return ["-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]


def _brief(kind: str, spec: str) -> str:
    registries: dict[str, Any] = {"task": tasks, "objective": objectives, "backbone": backbones}
    try:
        return brief(registries[kind], spec)
    except RequestError:  # of a plug-in that was not named: its full spec will do
        return spec


def show_data(summary: DataSummary, bad: int, console: Console) -> None:
    """Prints what is in a data set, with at most ``bad`` of its bad rows."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    total = sum(summary.bad_rows.values())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(summary.bad_rows.items()))
    found = {name: getattr(summary, name) for name in ("duplicates", "contradictions", "overlap")}
    for name, value in {
        "rows": f"{summary.rows:,}: {summary.train_rows:,} for training, {summary.test_rows:,} for testing",
        "bad rows": f"{total:,}" + (f": {kinds}" if kinds else ""),
        "prompt, tokens": ", ".join(f"{share} {length}" for share, length in summary.prompt_lengths.items()),
        "response, tokens": ", ".join(f"{share} {length}" for share, length in summary.response_lengths.items()),
        "symbols": f"{summary.symbols:,}; {summary.unknown:,} unknown tokens",
        "most frequent response": f"{summary.majority:.2%} of the rows",
        "duplicates": f"{found['duplicates'].rows:,} rows repeat an earlier one",
        "contradictions": f"{found['contradictions'].prompts:,} prompts have several responses, in "
        f"{found['contradictions'].rows:,} rows",
        "overlap": f"{found['overlap'].rows:,} rows have a prompt of the test file and are not trained on",
    }.items():
        table.add_row(name, value)
    console.print(table, markup=False)
    for example in summary.bad_examples[:bad]:
        console.print(f"bad: {example}", markup=False, soft_wrap=True)
    for name, group in found.items():
        for example in group.examples:
            texts = " / ".join(map(_short, example.responses))
            said = f"{name}: {'; '.join(example.places)}: {_short(example.prompt)} -> {texts}"
            console.print(said, markup=False, soft_wrap=True)


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
