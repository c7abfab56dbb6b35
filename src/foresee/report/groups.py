"""Runs put together: the same settings over seeds make a group, the same task and backbone make a setting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from statistics import median
from typing import Any

from foresee.backbones.base import backbones
from foresee.core.errors import RequestError
from foresee.core.spec import brief, resolve
from foresee.metrics.verdict import SOLVED, Verdict, judge
from foresee.report.load import BRANCH_POSITION, RunRecord
from foresee.report.style import Mark, marks
from foresee.tasks.base import tasks

_FREE = ("objective", "plugins", "steps", "test", "eval_every", "until_solved")
"""Settings in which a control may differ from the run it vouches for: the objective is its own, plug-in or not."""


@dataclass(frozen=True)
class Judged:
    """A run with its verdict; ``verdict`` is None while the run is unfinished."""

    record: RunRecord
    verdict: Verdict | None
    note: str | None
    solved_at: int | None
    """First evaluated step with ``exact`` >= 0.95, or None where that has not happened."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed, in the order of their seeds."""

    task: str
    objective: str
    backbone: str
    name: str
    """The objective and, where the same task and backbone have it with other settings too, what is special here."""
    label: str
    """``name`` with the objective as short as it can be told apart within the report."""
    runs: tuple[Judged, ...]

    @property
    def finished(self) -> tuple[Judged, ...]:
        return tuple(run for run in self.runs if run.record.finished)

    def solved(self) -> tuple[int, int]:
        """Finished runs that solved, and finished runs."""
        done = self.finished
        return sum((run.record.value("exact") or 0.0) >= SOLVED for run in done), len(done)

    def mean(self, row: str) -> float | None:
        """Mean of a scalar row over finished runs, or None where no run has it."""
        found = [value for run in self.finished if (value := run.record.value(row)) is not None]
        return sum(found) / len(found) if found else None

    def speed(self) -> float | None:
        """Median training examples a second over runs, or None where none was timed."""
        found = [run.record.examples_per_second for run in self.runs if run.record.examples_per_second is not None]
        return median(found) if found else None

    @property
    def parameters(self) -> int | None:
        """Trained numbers of one model, or None where no run says."""
        return next((run.record.parameters for run in self.runs if run.record.parameters is not None), None)


@dataclass(frozen=True)
class Setting:
    """Groups on one task and backbone: they share axes. ``chance`` is None where the task is not installed here."""

    task: str
    backbone: str
    chance: float | None
    groups: tuple[Group, ...]

    @property
    def short_backbone(self) -> str:
        """The backbone as a reader would say it."""
        return short_backbone(self.backbone)

    @cached_property
    def branch(self) -> int | None:
        """Place of the one real decision in an answer: what the runs' anatomy says, else that of a path-star;
        None where the task is not known to have one."""
        records = [run.record for group in self.groups for run in group.runs]
        said = next((each.branch for record in records for each in record.anatomies if each.branch is not None), None)
        if said is not None:
            return said
        return BRANCH_POSITION if "path-star" in self.task.partition(":")[0] else None


@cache
def short_backbone(backbone: str) -> str:
    """A preset's name where one means the same, else the spec without what is at its default; the spec itself where it
    is of a plug-in that is not loaded."""
    try:
        text = resolve(backbones, backbone).text
        same = [name for name in backbones.presets() if resolve(backbones, name).text == text]
        return same[0] if same else brief(backbones, backbone)
    except RequestError:
        return backbone


def chance_of(task: str, records: Iterable[RunRecord]) -> float | None:
    """``Task.chance`` of a task spec as one of its ``records`` says, or as the task itself does; None where neither
    is to be had, as of a plug-in that is not installed here."""
    for record in records:
        recorded = record.environment.get("chance") if record.task == task else None
        if isinstance(recorded, int | float) and not isinstance(recorded, bool) and 0 <= recorded <= 1:
            return float(recorded)
    try:
        return resolve(tasks, task).build().chance
    except RequestError:
        return None


def arrange(records: Sequence[RunRecord], notes: Mapping[str, str]) -> tuple[Setting, ...]:
    """Settings in the order in which their first run was given; groups likewise. ``notes`` is by run directory name."""
    labels = _labels([record.objective for record in records])
    chances = {task: chance_of(task, records) for task in dict.fromkeys(record.task for record in records)}
    controls = [record for record in records if _is_solved_control(record)]
    judged = {
        record.directory: _judge(record, controls, chances[record.task], notes.get(record.directory.name))
        for record in records
    }
    places = _in_order((record.task, record.backbone) for record in records)
    settings = []
    for task, backbone in places:
        here = [record for record in records if (record.task, record.backbone) == (task, backbone)]
        groups = []
        alike: dict[str, list[RunRecord]] = {}
        for record in here:
            alike.setdefault(_without(record.spec, ("seed",)), []).append(record)
        for each in alike.values():
            same = sorted(each, key=lambda record: record.seed)
            objective, special = same[0].objective, _special(same[0], here)
            runs = tuple(judged[record.directory] for record in same)
            groups.append(Group(task, objective, backbone, objective + special, labels[objective] + special, runs))
        settings.append(Setting(task, backbone, chances[task], tuple(groups)))
    return tuple(settings)


def marks_of(settings: Iterable[Setting]) -> dict[str, Mark]:
    """How each group is drawn, by its name."""
    return marks([group.name for setting in settings for group in setting.groups])


def _special(record: RunRecord, others: Sequence[RunRecord]) -> str:
    """The settings in which runs of the same objective differ, as " (steps=600)"; empty where there are none."""
    same = [other.spec for other in others if other.objective == record.objective]
    differing = [
        key for key in record.spec if key != "seed" and any(spec.get(key) != record.spec[key] for spec in same)
    ]
    return f" ({', '.join(f'{key}={record.spec[key]}' for key in differing)})" if differing else ""


def _is_solved_control(record: RunRecord) -> bool:
    return record.objective.partition(":")[0] == "reversed" and (record.value("exact") or 0.0) >= SOLVED


def control_solved(record: RunRecord, records: Iterable[RunRecord]) -> bool:
    """Whether reversed training with the same task, backbone, seed and training settings solved among ``records``, in
    no more steps than ``record`` was given."""
    for other in records:
        if not _is_solved_control(other) or other.task != record.task:
            continue
        same = _without(other.spec, _FREE) == _without(record.spec, _FREE)
        if same and other.spec.get("steps", 0) <= record.spec.get("steps", 0):
            return True
    return False


def _judge(record: RunRecord, records: Sequence[RunRecord], chance: float | None, note: str | None) -> Judged:
    verdict = None
    if record.finished and chance is not None and "exact" in record.rows:
        verdict = judge(record.rows, chance, control_solved(record, records))
    solved_at = next((each.step for each in record.evaluations if (each.rate("exact") or 0.0) >= SOLVED), None)
    return Judged(record, verdict, note, solved_at)


def _without(spec: Mapping[str, Any], keys: Sequence[str]) -> str:
    return json.dumps({key: value for key, value in spec.items() if key not in keys}, sort_keys=True)


def _labels(objectives: Sequence[str]) -> dict[str, str]:
    distinct = sorted(set(objectives))
    names = [objective.partition(":")[0] for objective in distinct]
    return {
        objective: name if names.count(name) == 1 else objective
        for objective, name in zip(distinct, names, strict=True)
    }


def _in_order(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))
