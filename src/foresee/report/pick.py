"""Which runs and test examples the anatomy shows: as many as fit, and it says what it leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foresee.report.choose import is_typical
from foresee.report.dissected import Anatomy
from foresee.report.groups import Group, Judged, Setting
from foresee.report.load import Example

Examples = dict[str, tuple[Example, Anatomy | None]]

MOST_PANELS = 320
"""Panels on a page: what keeps a page of hundreds of runs below five megabytes."""
MOST_EXAMPLES = 6


@dataclass(frozen=True)
class Panel:
    """One run on one example; ``anatomy`` is None where the run kept none of it."""

    group: Group
    run: Judged
    example: Example
    anatomy: Anatomy | None


@dataclass(frozen=True)
class Shown:
    """The panels of one example: ``prompt`` and ``answer`` are the task's text."""

    prompt: str
    answer: str
    panels: tuple[Panel, ...]


def pick(setting: Setting, panels: int) -> tuple[Shown, ...]:
    """Examples of a setting that most runs have; so many that at most ``panels`` panels are drawn, but at least one.

    The most telling one comes first (of those with anatomy, that on which most runs do what they mostly do), then the
    others in the order in which runs keep them. Where even one example would be too many panels, each group is shown by
    its first run.
    """
    kept = {run.record.directory: _examples(run) for group in setting.groups for run in group.runs}
    runs = [(group, run) for group in setting.groups for run in group.runs if kept[run.record.directory]]
    if not runs:
        return ()
    seen = Counter(prompt for _, run in runs for prompt in kept[run.record.directory])
    most = max(seen.values())
    if most < len(runs):
        # Not all have one in common: each run's own telling example too, so that every run is shown.
        prompts = [_telling([run], list(kept[run.record.directory]), kept) for _, run in runs]
        prompts = list(dict.fromkeys([*(prompt for prompt in seen if seen[prompt] == most and most > 1), *prompts]))
    else:
        prompts = [prompt for prompt in seen if seen[prompt] == most]
        best = _telling([run for _, run in runs], prompts, kept)
        prompts = [best, *(prompt for prompt in prompts if prompt != best)]
    shared = most == len(runs)
    if len(runs) > panels:
        first = {id(group): run.record.directory for group, run in reversed(runs)}
        runs = [(group, run) for group, run in runs if first[id(group)] == run.record.directory]
    shown: list[Shown] = []
    left = panels
    for prompt in prompts[:MOST_EXAMPLES] if shared else prompts:
        here = [
            Panel(group, run, *kept[run.record.directory][prompt])
            for group, run in runs
            if prompt in kept[run.record.directory]
        ]
        if here and (not shown or len(here) <= left):
            shown.append(Shown(prompt, here[0].example.answer, tuple(here)))
            left -= len(here)
    return tuple(shown)


def _telling(runs: Sequence[Judged], prompts: Sequence[str], kept: Mapping[Path, Examples]) -> str:
    def told(prompt: str) -> tuple[int, int]:
        here = [(run, *kept[run.record.directory][prompt]) for run in runs]
        return sum(a is not None for _, _, a in here), sum(is_typical(run, example) for run, example, _ in here)

    return max(prompts, key=told)


def budget(settings: Sequence[Setting]) -> int:
    """Panels that each setting may have."""
    return max(1, MOST_PANELS // max(1, len(settings)))


def _examples(run: Judged) -> Examples:
    """By prompt: those with anatomy first, then the others that were kept."""
    found: Examples = {
        each.prompt: (Example(each.prompt, each.answer, each.wrote), each) for each in run.record.anatomies
    }
    for example in run.record.examples:
        found.setdefault(example.prompt, (example, None))
    return found
