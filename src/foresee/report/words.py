"""Everything the report says in words that does not depend on HTML."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foresee.core.errors import RequestError
from foresee.core.spec import parse
from foresee.metrics.verdict import Verdict
from foresee.report.groups import Group, Judged, Setting


def short_task(task: str) -> str:
    """A task spec as a reader would say it: the paper's ``G(d, l)`` for a path-star, the spec itself for others."""
    options = _path_star(task)
    return f"path-star G({options['degree']}, {options['length']})" if options else task


def task_title(task: str) -> str:
    """``short_task`` and how many node labels there are."""
    options = _path_star(task)
    return short_task(task) + (f", {options['nodes']} node labels" if "nodes" in options else "")


def _path_star(task: str) -> dict[str, str]:
    try:
        name, options = parse(task)
    except RequestError:
        return {}
    return options if name == "path-star" and {"degree", "length"} <= options.keys() else {}


def number(value: float) -> str:
    """A rate: three decimals."""
    return f"{value:.3f}"


def rate(row: object) -> str:
    """A rate row with its interval, such as "0.497 [0.475, 0.519]"; a dash where it was not measured."""
    if not isinstance(row, dict):
        return "–"
    if "low" not in row or "high" not in row:
        return number(row["value"])
    return f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"


def seeds(count: int) -> str:
    """A number of seeds in words."""
    return f"{count} seed{'' if count == 1 else 's'}"


def lead(task: str, settings: tuple[Setting, ...]) -> str:
    """One sentence on a task: who solved it and who did not."""
    solved, failed, waiting = [], [], []
    for setting in settings:
        for group in setting.groups:
            yes, done = group.solved()
            name = group.label if len(settings) == 1 else f"{group.label} on {setting.short_backbone}"
            if not done:
                waiting.append(name)
            elif yes:
                solved.append(name + (f" ({yes} of {done} seeds)" if done > 1 else ""))
            else:
                failed.append(name + (f" (0 of {done} seeds)" if done > 1 else ""))
    parts = []
    if solved:
        parts.append(f"{listed(solved)} solved it")
    if failed:
        parts.append(f"{listed(failed)} did not" + ("" if solved else " solve it"))
    if waiting:
        parts.append(f"{listed(waiting)} {'is' if len(waiting) == 1 else 'are'} unfinished")
    return f"On {task_title(task)}: {'; '.join(parts)}."


def listed(names: list[str]) -> str:
    """Names joined as in a sentence."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def verdict_name(verdict: Verdict) -> str:
    """A verdict's name, marked where it is inconclusive."""
    return verdict.name + (" (inconclusive)" if verdict.inconclusive else "")


def verdict_counts(group: Group) -> list[tuple[str, int]]:
    """Verdict names of a group with how many seeds have each, in the order of their first seed."""
    names = [verdict_name(run.verdict) if run.verdict is not None else standing(run) for run in group.runs]
    return list(Counter(names).items())


def standing(run: Judged) -> str:
    """What to say in place of a verdict."""
    return "no verdict" if run.record.finished else "unfinished"


def without_verdict(run: Judged, chance: float | None) -> str:
    """Why a run has no verdict."""
    planned = run.record.spec.get("steps")
    if not run.record.finished:
        of = f" of {planned:,}" if isinstance(planned, int) else ""
        return f"This run is unfinished: {run.record.steps_done:,}{of} steps done, no final measurements yet."
    if chance is None:
        return "The task is not installed here, so chance is unknown and no verdict can be given."
    return "The run holds no final exact accuracy, so no verdict can be given."


def steps_to_solve(run: Judged) -> str:
    """The first evaluated step at which the run had solved, or how far it went without."""
    if run.solved_at is not None:
        return f"{run.solved_at:,}"
    return f"not within {run.record.steps_done:,}" if run.record.steps_done else "–"


def budget(spec: Mapping[str, Any]) -> str:
    """The training settings that matter to a comparison, in a line."""
    parts = []
    for key, form in (("steps", "up to {:,} steps"), ("batch", "batch {}"), ("lr", "learning rate {}")):
        value = spec.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            parts.append(form.format(value))
    data = str(spec.get("data", ""))
    kind, _, rest = data.partition(":")
    if kind == "fixed" and rest.isdigit():
        parts.append(f"{int(rest):,} fixed examples")
    elif data == "fresh":
        parts.append("fresh examples")
    elif data:
        parts.append(f"data {rest or data}")
    return ", ".join(parts)


_OPTIONS = ("steps", "batch", "lr", "seed", "data", "test", "eval_every", "warmup", "schedule", "weight_decay", "beta2",
            "clip", "precision", "device", "until_solved", "accumulate", "recompute")  # fmt: skip


def command(spec: Mapping[str, Any]) -> str:
    """The command line that makes this run again."""
    words = ["foresee", "train", spec["task"], "--objective", spec["objective"], "--backbone", spec["backbone"]]
    for key in _OPTIONS:
        value, flag = spec.get(key), "--" + key.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif key == "data":
            kind, _, rest = str(value).partition(":")
            words += [flag, rest if kind in ("fixed", "file") and rest else str(value)]
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def flat(environment: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested JSON as dotted names and texts."""
    found: dict[str, str] = {}
    for key, value in environment.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


@dataclass(frozen=True)
class Section:
    """A section of the page: its id, its heading (ready-made, empty for none), and its ready-made HTML."""

    name: str
    heading: str
    html: str
