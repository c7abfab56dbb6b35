"""Tables for a person at a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from foresee.core.spec import shorten
from foresee.datasets.inspection import DataSummary
from foresee.experiments.catalogue import Entry
from foresee.experiments.compare import Comparison
from foresee.metrics.verdict import Verdict, plain_words
from foresee.objectives.base import objectives
from foresee.training.run import Run
from foresee.training.run_table import runs_table, table_records, telling_columns, without_common
from foresee.training.settings import Settings, part_registries
from foresee.training.summary import TONES, describe_run, interval_of, list_measurements, table_of
from foresee.training.witnesses import settling_commands


def verdict_of(verdict: Verdict) -> Text:
    """Its name in its colour, and whether it is inconclusive."""
    return Text(verdict.name, TONES[verdict.name]).append(" (inconclusive)" if verdict.inconclusive else "", "yellow")


def show_run(run: Run, console: Console) -> None:
    """Prints rows, verdict and what it means, and what would settle it."""
    rows = [
        (name, f"{row['value']:.4f}", interval_of(row), f"{row['n']:,}",
         f"{row['problems']:,}" if row.get("problems", row["n"]) != row["n"] else "")
        for name, row in list_measurements(run.rows)
    ]  # fmt: skip
    console.print(describe_run(run).partition("\n")[0], markup=False, soft_wrap=True)
    console.print(table_of(("measure", "value", "95 % interval", "n", "problems"), rows, console.width))
    verdict = run.verdict  # looks through the folders beside it for witnesses
    console.print(Text("verdict: ").append(verdict_of(verdict)))
    console.print(f"because: {verdict.because}", markup=False)
    console.print(plain_words(verdict), markup=False)
    if verdict.inconclusive and (commands := settling_commands(run.spec, run.describe_circumstances(), run.dir.parent)):
        console.print("to settle it:")
        for each in commands:
            console.print(f"  {each}", markup=False, soft_wrap=True)
    console.print(f"run: {run.dir}", markup=False, soft_wrap=True)


def show_comparison(compared: Comparison, console: Console) -> None:
    """Prints objectives beside each other: a line a seed, since outcomes are bimodal, then the share that solved."""
    console.print(compared.title, markup=False)
    rows = [
        (
            "" if place else shorten(objectives, group.objective), str(run.spec.seed), f"{exact:.3f}",
            _rate(run, "branch"), _rate(run, "follow"), "-" if at is None else f"step {at}", verdict_of(run.verdict),
        )
        for group in compared.groups
        for place, (run, exact, at) in enumerate(zip(group.runs, group.exact, group.steps_to_solve, strict=True))
    ]  # fmt: skip
    headings = ("objective", "seed", "exact", "branch", "follow", "solved at", "verdict")
    table = table_of(headings, rows, console.width, headings[1:-1])
    for row, (name, *_) in zip(table.rows[:-1], rows[1:], strict=True):
        row.end_section = bool(name)
    console.print(table)
    for line in compared.solved:
        console.print(line, markup=False, soft_wrap=True)
    for line in compared.reasons:
        console.print(line, markup=False, soft_wrap=line.startswith("to settle"))


def _rate(run: Run, row: str) -> str:
    found = run.rows.get(row)
    return f"{found['value']:.3f}" if isinstance(found, dict) else "-"


def show_entry(entry: Entry, console: Console) -> None:
    """Prints what has a name: its options with their values, its own words, its source and an example."""
    console.print(f"[bold]{entry.name}[/bold], a {entry.kind}".replace("a obj", "an obj"), f": {entry.summary}", sep="")
    if entry.stands_for:
        console.print(f"a preset for {entry.stands_for}", markup=False)
    for heading, options in (("", entry.options), (f"\nof every {entry.kind}:", entry.shared)):
        if options:
            console.print(*filter(None, [heading]))
            headings = ["option", "default", "values", *(["meaning"] if any(each.meaning for each in options) else [])]
            rows = [(each.name, each.default, each.values, each.meaning)[: len(headings)] for each in options]
            console.print(table_of(headings, rows, console.width))
    for text in (entry.about, entry.source and f"Source: {entry.source}"):
        if text:
            console.print(f"\n{text}", markup=False)
    if entry.line:
        console.print(f"\nan example: {entry.line}", markup=False, soft_wrap=True)
    for command in entry.examples:
        console.print(f"\n  {command}", markup=False, soft_wrap=True)


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
    records = table_records(runs_table(runs))
    show_records(records, telling_columns(records), console)


COMMON = ("state", "task", "objective", "backbone", "seed", "steps", "batch")
"""Columns that are said once, above the table, where all runs agree on them."""
LEAST_COLUMN = 6
"""Places that a column of a table needs, with what parts it from the next."""
WIDE = 120
"""Columns of a terminal from which task and backbone stand in every row; below, a letter does, which is said once."""


def show_records(
    records: Sequence[Mapping[str, Any]], columns: Sequence[str], console: Console, *, brief_columns: bool = True
) -> None:
    """Prints rows of a table of runs; what all agree on once, above it, where ``brief_columns``."""
    cells: dict[str, list[Any]] = {name: _column(name, [record.get(name) for record in records]) for name in columns}
    doubted = [bool(record.get("inconclusive")) for record in records]
    if "verdict" in cells:
        cells["verdict"] = [name + "?" * doubt for name, doubt in zip(cells["verdict"], doubted, strict=True)]
    if brief_columns and records:
        for name in COMMON:
            if len(set(cells.get(name, ("", "-")))) == 1:
                console.print(f"{name}: {cells.pop(name)[0]}", markup=False, soft_wrap=True)
        if console.width < WIDE:
            cells = _narrow(cells, console)
    if "verdict" in cells:
        cells["verdict"] = [Text(name, TONES.get(name.rstrip("?"), "")) for name in cells["verdict"]]
    rows = list(zip(*cells.values(), strict=True))
    if LEAST_COLUMN * len(cells) <= console.width:
        console.print(table_of(cells, rows, console.width, [name for name in cells if name not in COMMON]))
    else:  # a line a value, where so many columns have no room beside each other
        for row in rows:
            for name, value in zip(cells, row, strict=True):
                if str(value) not in ("", "-"):
                    console.print(f"{name}: {value}", markup=False, soft_wrap=True)
            console.print()
    note = "; ?: inconclusive, `foresee evaluate RUN` says why" if any(doubted) and "verdict" in columns else ""
    console.print(f"{len(records)} run{'s' * (len(records) != 1)}{note}", markup=False, soft_wrap=True)


def _narrow(cells: dict[str, list[Any]], console: Console) -> dict[str, list[Any]]:
    """Cells for a narrow terminal: runs by the start of their digests, tasks and backbones by a letter or two, which it
    prints."""
    made = dict(cells)
    if "run" in made:
        length = next(
            size for size in range(8, 99) if len({each[:size] for each in made["run"]}) == len({*made["run"]})
        )
        made["run"] = [each[:length] for each in made["run"]]
    parts = [made.pop(name) for name in ("task", "backbone") if name in made]
    if not parts:
        return made
    named = [" with ".join(each) for each in zip(*parts, strict=True)]
    letters = {each: _letter(place) for place, each in enumerate(dict.fromkeys(named))}
    for each, letter in letters.items():
        console.print(f"{letter}: {each}", markup=False, soft_wrap=True)
    first, *others = made.items()
    return dict([first, ("on", [letters[each] for each in named]), *others])


def _letter(place: int) -> str:
    """A to Z, then AA and so on."""
    return (_letter(place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)


def _column(name: str, values: Sequence[Any]) -> list[str]:
    """Cells for a terminal: measurements to three places, specs by what tells them apart."""
    if name in part_registries():
        short = [shorten(part_registries()[name], value) for value in values if value is not None]
        each = iter(short if len(set(short)) == 1 else without_common(short))
        return ["-" if value is None else next(each) for value in values]
    places = "g" if name in Settings.model_fields else ".3f"
    return [
        "-" if value is None else f"{value:{places}}" if isinstance(value, float) else str(value) for value in values
    ]


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
        "left out": ", ".join(summary.left_out) or "nothing",
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
