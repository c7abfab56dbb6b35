"""The sections of the page, in the order in which it is read. Each function gives ready-made HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from foresee.diagnostics.verdict import plain_words
from foresee.report import explain
from foresee.report.groups import Group, Judged, Setting
from foresee.report.load import RunRecord
from foresee.report.markup import details, items, spec, swatch, text, written
from foresee.report.style import Mark
from foresee.report.words import (
    budget,
    command,
    flat,
    lead,
    number,
    rate,
    seeds,
    standing,
    steps_to_solve,
    task_title,
    verdict_counts,
    verdict_name,
    without_verdict,
)
from foresee.stats import rate as wilson_rate

Marks = Mapping[str, Mark]
Settings = tuple[Setting, ...]


def by_task(settings: Settings) -> dict[str, Settings]:
    """Settings by task, in order."""
    tasks = dict.fromkeys(setting.task for setting in settings)
    return {task: tuple(setting for setting in settings if setting.task == task) for task in tasks}


def heading(setting: Setting, settings: Settings) -> str:
    """A sub-heading that says which task and, where one task has several, which backbone; none where there is one."""
    if len(settings) == 1:
        return ""
    same = [other for other in settings if other.task == setting.task]
    backbone = f" · {text(setting.backbone)}" if len(same) > 1 else ""
    return f"<h3>{text(task_title(setting.task))}{backbone}</h3>"


def findings(settings: Settings, marks: Marks) -> str:
    """What happened: a sentence a task, then each group's verdict in plain words."""
    parts = []
    for task, here in by_task(settings).items():
        parts.append(f'<p class="lead">{text(lead(task, here))}</p>')
        parts.append('<ul class="findings">')
        parts += [_finding(group, setting, marks[group.name]) for setting in here for group in setting.groups]
        parts.append("</ul>")
    return "".join(parts)


def _finding(group: Group, setting: Setting, mark: Mark) -> str:
    sentences: dict[str, tuple[str, list[Judged]]] = {}
    for run in group.runs:
        if run.verdict is None:
            name, sentence = standing(run), without_verdict(run, setting.chance)
        else:
            name, sentence = verdict_name(run.verdict), plain_words(run.verdict)
        sentences.setdefault(sentence, (name, []))[1].append(run)
    lines = [f'<span class="name">{text(group.label)}</span>']
    names = dict.fromkeys(name for name, _ in sentences.values())
    lines += [f'<span class="badge">{text(name)}</span>' for name in names]
    for sentence, (_, runs) in sentences.items():
        which = f"Seed{'s' if len(runs) > 1 else ''} {', '.join(str(run.record.seed) for run in runs)}: "
        shown = which if len(sentences) > 1 else ""
        measured = "; ".join(rate(run.record.rows["exact"]) for run in runs if "exact" in run.record.rows)
        numbers = ""
        if measured:
            guess = ""
            if setting.chance is not None:
                guess = f" A solver that guesses the one decision gets {setting.chance:.3g}."
            numbers = f'<p class="quiet">Whole answers right: {text(measured)}.{guess}</p>'
        lines.append(f"<p>{text(shown + sentence)}</p>{numbers}")
    lines += [f'<p class="note">{text(note)}</p>' for note in dict.fromkeys(run.note for run in group.runs if run.note)]
    body = "".join(lines)
    return f'<li style="--mark:{mark.colour}">{body}</li>'


_COLUMNS = ("solved", "exact", "branch", "follow", "steps to solve", "examples/s", "verdict")


def table(settings: Settings, marks: Marks) -> str:
    """A row a group; a line a seed within it."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("objective", *_COLUMNS))
    parts = []
    for setting in settings:
        budgets = {budget(group.runs[0].record.spec) for group in setting.groups}
        rows = "".join(_row(group, marks[group.name], len(budgets) > 1) for group in setting.groups)
        body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
        shared = f"<br>{text(*budgets)}" if len(budgets) == 1 else ""
        task = heading(setting, settings) or f"<h3>{text(task_title(setting.task))}</h3>"
        parts.append(f'{task}<p class="quiet">{spec(setting.task)}<br>{spec(setting.backbone)}{shared}</p>')
        parts.append(f'<table class="results">{body}</table>')
    return "".join(parts)


def _row(group: Group, mark: Mark, own_budget: bool) -> str:
    yes, done = group.solved()
    share = wilson_rate(yes, done) if done else None
    solved = [f"{yes} of {done}", f"[{share['low']:.2f}, {share['high']:.2f}]"] if share is not None else ["–"]
    names = [f"{name}{f' × {count}' if len(group.runs) > 1 else ''}" for name, count in verdict_counts(group)]
    speed = group.speed()
    cells = (
        solved,
        *([rate(run.record.rows.get(row)) for run in group.runs] for row in ("exact", "branch", "follow")),
        [steps_to_solve(run) for run in group.runs],
        [f"{speed:,.0f}" if speed is not None else "–"],
        names,
    )
    which = f"{seeds(len(group.runs))}: {', '.join(str(run.record.seed) for run in group.runs)}"
    notes = [note for note in dict.fromkeys(run.note for run in group.runs) if note]
    who = (
        f'<div>{swatch(mark)}<span class="name">{text(group.name)}</span></div>'
        + (f'<div class="quiet">{text(budget(group.runs[0].record.spec))}</div>' if own_budget else "")
        + "".join(f'<div class="quiet">{text(line)}</div>' for line in (which, *notes))
    )
    row = f'<td class="who">{who}</td>'
    for name, lines in zip(_COLUMNS, cells, strict=True):
        row += f'<td data-label="{name}"><div>' + "<br>".join(_line(line) for line in lines) + "</div></td>"
    return f"<tr>{row}</tr>"


def _line(line: str) -> str:
    """A line of a cell, its interval quieter than its value."""
    value, bracket, interval = text(line).partition("[")
    return f'{value}<span class="interval">{bracket}{interval}</span>' if bracket else value


def panels(settings: Settings, draw: Callable[[Setting], str]) -> str:
    """The figures of each setting under its heading."""
    return "".join(heading(each, settings) + draw(each) for each in settings)


def examples(groups: tuple[Group, ...]) -> str:
    """Every kept example as text, to be opened."""
    parts = []
    for group in groups:
        for run in group.runs:
            kept = run.record.examples
            if not kept:
                continue
            right = sum(each.wrote == each.answer for each in kept)
            lines = [
                f'<span class="mono">{text(each.prompt)}</span><br>answer <span class="mono">'
                f"{text(each.answer.replace(',', ' → '))}</span><br>wrote {written(each)}"
                for each in kept
            ]
            summary = f"{group.label}, seed {run.record.seed}: {right} of its {len(kept)} kept test examples right"
            parts.append(details(summary, items(lines, "ol")))
    return "".join(parts)


def meaning(settings: Settings) -> str:
    """What the words mean, and which rule fired with which numbers."""
    fired = []
    for setting in settings:
        where = f" on {task_title(setting.task)}" if len(settings) > 1 else ""
        for group in setting.groups:
            for run in group.runs:
                who = f"<b>{text(group.label)}</b>{text(where)}, seed {run.record.seed}"
                if run.verdict is None:
                    fired.append(f"{who}: {text(without_verdict(run, setting.chance))}")
                else:
                    fired.append(f"{who}: {text(verdict_name(run.verdict))}, because {text(run.verdict.because)}.")
                plateau = run.record.rows.get("plateau")
                if isinstance(plateau, dict) and isinstance(plateau.get("reference"), float):
                    fired[-1] += (
                        f" Forced loss {number(plateau['value'])} nats a token; a perfect shortcut with a blind"
                        f" decision would stand at {number(plateau['reference'])}."
                    )
    return (
        f"<h3>Two failures</h3>{explain.FAILURES}<h3>The measures</h3>{explain.MEASURES}"
        f"<h3>The verdicts</h3>{explain.RULES}<h3>Which rule fired here</h3>{items(fired)}"
    )


def reproduction(settings: Settings, records: tuple[RunRecord, ...]) -> str:
    """The command line and the versions of every run."""
    lines = []
    for group in (group for setting in settings for group in setting.groups):
        joined = ", ".join(run.record.directory.name for run in group.runs)
        commands = "\n".join(command(run.record.spec) for run in group.runs)
        kind = "run" if len(group.runs) == 1 else "runs"
        lines.append(f'<p class="quiet">{text(group.label)}, {kind} <code>{text(joined)}</code></p>')
        lines.append(f"<pre><code>{text(commands)}</code></pre>")
        if group.runs[0].record.spec.get("plugins"):
            lines.append('<p class="quiet">Add <code>--plugin FILE</code> for the plug-in that it was made with.</p>')
    made: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for record in records:
        made.setdefault(tuple(sorted(flat(record.environment).items())), []).append(record.directory.name)
    for environment, names in made.items():
        who = "Made with" if len(made) == 1 else f"{', '.join(names)}: made with"
        if environment:
            facts = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in environment)
            lines.append(f'<h3>{text(who)}</h3><dl class="facts">{facts}</dl>')
        else:
            lines.append(f'<p class="quiet">{text(who)} versions that were not recorded.</p>')
    return "".join(lines)
