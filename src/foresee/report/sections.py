"""What happened and the runs: the sections that a reader begins with. Each function gives ready-made HTML."""

from __future__ import annotations

from collections.abc import Sequence

from foresee.metrics.intervals import rate as wilson_rate
from foresee.metrics.verdict import plain_words
from foresee.report.book import Book, by_task, source
from foresee.report.groups import Group, Judged, Setting, short_backbone
from foresee.report.markup import items, spec, swatch, text
from foresee.report.words import (
    budget,
    lead,
    rate,
    seeds,
    standing,
    steps_to_solve,
    task_title,
    verdict_counts,
    verdict_name,
    without_verdict,
)

MOST_FINDINGS = 6
"""Groups on a task up to which each has a paragraph of its own; more are listed by what happened to them."""


def findings(book: Book) -> str:
    """What happened: a sentence a task, then the verdicts in plain words."""
    parts = []
    for task, here in by_task(book.settings).items():
        groups = [(group, setting) for setting in here for group in setting.groups]
        chance = here[0].chance
        guess = f" A solver that guesses the one decision gets {chance:.3g}." if chance is not None else ""
        parts.append(f'<p class="lead">{text(lead(task, here) + guess)}</p>')
        parts.append('<ul class="findings">')
        if len(groups) <= MOST_FINDINGS:
            parts += [_finding(book, group, setting, several=len(here) > 1) for group, setting in groups]
        else:
            parts += _by_verdict(book, groups, several=len(here) > 1)
        parts.append("</ul>")
    return "".join(parts)


def _said(run: Judged, chance: float | None) -> tuple[str, str]:
    """A verdict's name and its plain words, or what stands in for them."""
    if run.verdict is None:
        return standing(run), without_verdict(run, chance)
    return verdict_name(run.verdict), plain_words(run.verdict)


def _finding(book: Book, group: Group, setting: Setting, *, several: bool) -> str:
    sentences: dict[str, tuple[str, list[Judged]]] = {}
    for run in group.runs:
        name, sentence = _said(run, setting.chance)
        sentences.setdefault(sentence, (name, []))[1].append(run)
    where = f" on {setting.short_backbone}" if several else ""
    lines = [f'<span class="name">{text(group.label + where)}</span>']
    lines += [badge(name) for name in dict.fromkeys(name for name, _ in sentences.values())]
    for sentence, (_, runs) in sentences.items():
        which = f"Seed{'s' if len(runs) > 1 else ''} {_seeds(runs)}: "
        shown = which if len(sentences) > 1 else ""
        measured = "; ".join(rate(run.record.rows["exact"]) for run in runs if "exact" in run.record.rows)
        numbers = ""
        if measured:
            numbers = f'<p class="quiet">Whole answers right: {text(measured)}. {book.again(group)}</p>'
        lines.append(f"<p>{text(shown + sentence)}</p>{numbers}")
    lines += [f'<p class="note">{text(note)}</p>' for note in notes_of(group)]
    body = "".join(lines)
    return f'<li class="h{book.marks[group.name].hue}" data-o="{book.places[group.name]}">{body}</li>'


def _by_verdict(book: Book, groups: Sequence[tuple[Group, Setting]], *, several: bool) -> list[str]:
    """Each outcome once, with the objectives and seeds that had it."""
    outcomes: dict[tuple[str, str], dict[int, tuple[Group, list[Judged]]]] = {}
    for group, setting in groups:
        for run in group.runs:
            outcome = _said(run, setting.chance)
            # Unfinished runs differ in how far they are: the table says how far.
            key = (outcome[0], "These runs have no final measurements yet." if run.verdict is None else outcome[1])
            outcomes.setdefault(key, {}).setdefault(id(group), (group, []))[1].append(run)
    parts = []
    for (name, sentence), having in outcomes.items():
        who = []
        for group, runs in having.values():
            where = f" on {short_backbone(group.backbone)}" if several else ""
            some = "" if len(runs) == len(group.runs) else f" ({len(runs)} of {seeds(len(group.runs))}: {_seeds(runs)})"
            mark, place = book.marks[group.name], book.places[group.name]
            who.append(
                f'<span data-o="{place}">{swatch(mark)}{text(group.label + where + some)} {book.again(group)}</span>'
            )
        parts.append(f'<li>{badge(name)}<p>{text(sentence)}</p><div class="who-all">{"".join(who)}</div></li>')
    return parts


def badge(name: str) -> str:
    """A verdict's name, in a shape."""
    kind = "good" if name == "solved" else "open" if "inconclusive" in name or name == "unfinished" else "bad"
    return f'<span class="badge {kind}">{text(name)}</span>'


def _seeds(runs: Sequence[Judged]) -> str:
    return ", ".join(str(run.record.seed) for run in runs)


def notes_of(group: Group) -> list[str]:
    """Remarks on a group's runs, each once."""
    return [note for note in dict.fromkeys(run.note for run in group.runs) if note]


COLUMNS = ("solved", "exact", "branch", "follow", "steps to solve", "verdict")


def table(book: Book) -> str:
    """A row a group; a line a seed within it."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("objective", *COLUMNS))
    parts = []
    for setting in book.settings:
        budgets = {budget(group.runs[0].record.spec) for group in setting.groups}
        rows = "".join(_row(book, group, len(budgets) > 1) for group in setting.groups)
        body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
        shared = f"<br>{text(*budgets)}" if len(budgets) == 1 else ""
        task = book.heading(setting) or f"<h3>{text(task_title(setting.task))}</h3>"
        parts.append(f'{task}<p class="quiet">{spec(setting.task)}<br>{spec(setting.backbone)}{shared}</p>')
        parts.append(f'<table class="results sortable">{body}</table>')
    parts.append(
        source(
            "Each row has a link to the commands that train its runs. They write <code>rows.jsonl</code> in a run's "
            "folder, from which this table is read; <code>foresee evaluate RUN</code> measures a trained run again."
        )
    )
    return "".join(parts)


def cell(label: str, lines: Sequence[str], value: float | None = None) -> str:
    """A cell of a table that becomes a list on a phone: ``label`` stands before it there, ``value`` is what it is
    sorted by."""
    sorted_by = "" if value is None else f' data-v="{value:.6g}"'
    return f'<td data-label="{label}"{sorted_by}><div>' + "<br>".join(_line(line) for line in lines) + "</div></td>"


def _row(book: Book, group: Group, own_budget: bool) -> str:
    yes, done = group.solved()
    share = wilson_rate(yes, done) if done else None
    solved = [f"{yes} of {done}", f"[{share['low']:.2f}, {share['high']:.2f}]"] if share is not None else ["–"]
    names = [f"{name}{f' × {count}' if len(group.runs) > 1 else ''}" for name, count in verdict_counts(group)]
    times = [run.solved_at for run in group.runs if run.solved_at is not None]
    rates = ("exact", "branch", "follow")
    cells = cell("solved", solved, None if share is None else share["value"])
    cells += "".join(cell(row, _rates(group, row), group.mean(row)) for row in rates)
    cells += cell("steps to solve", [steps_to_solve(run) for run in group.runs], min(times, default=1e12))
    cells += cell("verdict", names)
    which = f"{seeds(len(group.runs))}: {', '.join(str(run.record.seed) for run in group.runs)}"
    who = (
        f'<div>{swatch(book.marks[group.name])}<span class="name">{text(group.label)}</span></div>'
        f'<div class="quiet">{text(which)}</div>'
    )
    if group.objective != group.label:
        who += f'<div class="quiet">{spec(group.objective)}</div>'
    if own_budget:
        who += f'<div class="quiet">{text(budget(group.runs[0].record.spec))}</div>'
    who += "".join(f'<div class="quiet">{text(note)}</div>' for note in notes_of(group))
    who += f'<div class="quiet">{book.again(group)}</div>'
    return f'<tr data-o="{book.places[group.name]}"><td class="who">{who}</td>{cells}</tr>'


def _rates(group: Group, row: str) -> list[str]:
    """A line a seed; one dash where no seed has the row."""
    found = [run.record.rows.get(row) for run in group.runs]
    return [rate(each) for each in found] if any(each is not None for each in found) else ["–"]


def _line(line: str) -> str:
    """A line of a cell, its interval quieter than its value."""
    value, bracket, interval = text(line).partition("[")
    return f'{value}<span class="interval">{bracket}{interval}</span>' if bracket else value


def unreadable(book: Book) -> str:
    """Runs that are left out, and why."""
    if not book.damaged:
        return ""
    kind = "run is" if len(book.damaged) == 1 else "runs are"
    lines = items(text(each) for each in book.damaged)
    return f'<div class="warning"><b>{len(book.damaged)} damaged {kind} left out.</b>{lines}</div>'
