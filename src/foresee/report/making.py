"""What it means, and how to reproduce it: the explanations and the commands behind every number."""

from __future__ import annotations

from foresee.report import explain
from foresee.report.book import Book, source
from foresee.report.groups import Group
from foresee.report.markup import details, items, text, written
from foresee.report.words import command, flat, number, task_title, verdict_name, without_verdict


def meaning(book: Book) -> str:
    """What the words mean, and which rule fired with which numbers."""
    fired = []
    for setting in book.settings:
        where = f" on {task_title(setting.task)}" if len(book.settings) > 1 else ""
        for group in setting.groups:
            for run in group.runs:
                who = f"<b>{text(group.label)}</b>{text(where)}, seed {run.record.seed}"
                if run.verdict is None:
                    said = f"{who}: {text(without_verdict(run, setting.chance))}"
                else:
                    said = f"{who}: {text(verdict_name(run.verdict))}, because {text(run.verdict.because)}."
                plateau = run.record.rows.get("plateau")
                if isinstance(plateau, dict) and isinstance(plateau.get("reference"), float):
                    said += (
                        f" Forced loss {number(plateau['value'])} nats a token; a perfect shortcut with a blind"
                        f" decision would stand at {number(plateau['reference'])}."
                    )
                fired.append(f'<span data-o="{book.places[group.name]}">{said}</span>')
    rules = items(fired)
    if len(fired) > 12:
        rules = details(f"The rule of each of the {len(fired)} runs, with its numbers", rules)
    return (
        f"<h3>Two failures</h3>{explain.FAILURES}<h3>The measures</h3>{explain.MEASURES}"
        f"<h3>The verdicts</h3>{explain.RULES}<h3>Which rule fired here</h3>{rules}"
        + source("The rules are those of <code>foresee.metrics.verdict</code>; they read <code>rows.jsonl</code>.")
    )


def kept(book: Book) -> str:
    """Every kept example as text, to be opened; of many runs, those of the first seed of each group."""
    parts = []
    for group in book.groups:
        runs = group.runs if len(book.records) <= MOST_LISTED else group.runs[:1]
        for run in runs:
            examples = run.record.examples
            if not examples:
                continue
            right = sum(each.wrote == each.answer for each in examples)
            lines = [
                f'<span class="mono">{text(each.prompt)}</span><br>answer <span class="mono">'
                f"{text(each.answer.replace(',', ' → '))}</span><br>wrote {written(each)}"
                for each in examples[:MOST_EXAMPLES]
            ]
            summary = f"{group.label}, seed {run.record.seed}: {right} of its {len(examples)} kept test examples right"
            parts.append(details(summary, items(lines, "ol")))
    return details("Kept test examples of each run, as text", "".join(parts)) if parts else ""


MOST_LISTED = 40
"""Runs up to which the kept examples of each are listed."""
MOST_EXAMPLES = 20


def reproduction(book: Book) -> str:
    """The command line and the versions of every run."""
    parts = [_made(book, group) for group in book.groups]
    made: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for record in book.records:
        made.setdefault(tuple(sorted(flat(record.environment).items())), []).append(record.directory.name)
    for environment, names in made.items():
        shown = ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more runs"
        who = "Made with" if len(made) == 1 else f"{shown}: made with"
        if environment:
            facts = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in environment)
            parts.append(f'<h3>{text(who)}</h3><dl class="facts">{facts}</dl>')
        else:
            parts.append(f'<p class="quiet">{text(who)} versions that were not recorded.</p>')
    return "".join(parts)


def _made(book: Book, group: Group) -> str:
    joined = ", ".join(run.record.directory.name for run in group.runs)
    commands = "\n".join(command(run.record.spec) for run in group.runs)
    kind = "run" if len(group.runs) == 1 else "runs"
    where = f" on {task_title(group.task)}" if len(book.settings) > 1 else ""
    plugin = ""
    if group.runs[0].record.spec.get("plugins"):
        plugin = '<p class="quiet">Add <code>--plugin FILE</code> for the plug-in that it was made with.</p>'
    return (
        f'<div class="made" id="{book.anchor(group)}"><p class="quiet"><b>{text(group.label + where)}</b>, {kind} '
        f"<code>{text(joined)}</code></p><pre><code>{text(commands)}</code></pre>{plugin}</div>"
    )


def pages_own(book: Book, out: str, folders: list[str]) -> str:
    """The command that gives this page again."""
    named = [record.directory.name for record in book.records]
    listed = " ".join(named) if len(named) <= 12 else f"{' '.join(named[:10])} … ({len(named)} runs)"
    parts = [f"<code>foresee report {text(listed)} -o {text(out)}</code>, run in the folder that holds the runs"]
    parts += [f"<code>{text(study.reproduce)} --report {text(out)}</code>" for study in book.studies]
    also = (
        " <code>--figures DIR</code> and <code>--tables DIR</code> write the figures as SVG and PDF, and the tables as "
        "Markdown and LaTeX."
    )
    if folders:
        also = f" Figures or tables for papers lie in {text(', '.join(folders))}."
    return source(f"This page: {' or '.join(parts)}.{also}")
