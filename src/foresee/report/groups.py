"""Runs put together: the same settings over seeds make a group, the same task and backbone make a section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from foresee.backbones.base import backbones
from foresee.core.errors import RequestError
from foresee.core.spec import options_text, parse, resolve, shorten
from foresee.experiments.compare import Comparison, steps_to_solve
from foresee.metrics.survival import Times
from foresee.metrics.verdict import SOLVED, Verdict, plain_words
from foresee.report.style import Mark, assign_marks
from foresee.tasks.base import tasks
from foresee.training.records import locate_run, one_by_one, value_of
from foresee.training.run import Run
from foresee.training.settings import Settings

NOTHING = "an empty list of runs was given; name some, or give no list at all, for all of them below runs"
"""What is said of an empty choice of runs."""
BRANCH_PLACE = 1
"""Place of the branch token in a path-star's answer: the first token is a copy of the start."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed and the device they were made on, in the order of their seeds.
    ``label`` is the objective, as short as it can be told apart within the report, and what is special about its
    settings; ``id`` names it on the page."""

    id: str
    label: str
    runs: tuple[Run, ...]

    @property
    def spec(self) -> Settings:
        """The settings of its first run."""
        return self.runs[0].spec

    @property
    def objective(self) -> str:
        """The label without what is special about its settings."""
        return self.label.partition(" (")[0]

    @property
    def backbone(self) -> str:
        """The backbone, as a reader would say it."""
        return short_backbone(self.spec.backbone)

    @property
    def budget(self) -> str:
        """The training settings that matter to a comparison, in a line."""
        return describe_budget(self.spec)

    @cached_property
    def _verdicts(self) -> dict[Path, Verdict | None]:
        return {run.dir: _verdict(run) for run in self.runs}

    def verdict(self, run: Run) -> Verdict | None:
        """None while the run is unfinished, and where chance is unknown as its task is not installed here."""
        return self._verdicts[run.dir]

    def outcome(self, run: Run) -> str:
        """The verdict's name, marked where it is inconclusive, or what stands in for it."""
        verdict = self.verdict(run)
        return verdict.label if verdict is not None else "no verdict" if run.rows else "unfinished"

    def story(self, run: Run) -> str:
        """The verdict in plain words, or why there is none."""
        if (verdict := self.verdict(run)) is not None:
            return plain_words(verdict)
        if run.rows:
            return "The task is not installed here, so chance is unknown and no verdict can be given."
        return f"This run is unfinished: {run.steps:,} of {run.spec.steps:,} steps done, no final measurements yet."

    @property
    def finished(self) -> list[Run]:
        """The runs that have their final measurements."""
        return [run for run in self.runs if run.rows]

    @property
    def solved(self) -> int:
        """How many finished runs solved the task."""
        return sum(value_of(run.rows) >= SOLVED for run in self.finished)

    @property
    def speeds(self) -> dict[str, float]:
        """Training examples a second by device, the median over its runs; without devices where none was timed."""
        found: dict[str, list[float]] = {}
        for run in self.runs:
            if (speed := run.examples_per_second) is not None:
                found.setdefault(run.spec.device, []).append(speed)
        return {device: median(speeds) for device, speeds in found.items()}

    @property
    def times(self) -> Times | None:
        """Steps to solve; a run that has not solved is censored at its last step. None where none has begun."""
        begun = [run for run in self.runs if run.steps]
        return Times.of([steps_to_solve(run) for run in begun], [run.steps for run in begun]) if begun else None


@dataclass(frozen=True)
class Section:
    """Groups on one task and backbone, which share axes. ``chance`` is None where the task is not installed here."""

    task: str
    title: str
    chance: float | None
    groups: tuple[Group, ...]

    @cached_property
    def branch(self) -> int | None:
        """Place of the one real decision in an answer: what the runs' anatomies say, else that of a path-star; None
        where the task is not known to have one."""
        told = (each.get("branch") for group in self.groups for run in group.runs for each in run.anatomies)
        found = next((place for place in told if place is not None), None)
        return BRANCH_PLACE if found is None and "path-star" in self.task.partition(":")[0] else found

    @property
    def guess(self) -> str:
        """Who is right as often as ``chance``."""
        own = self.task.startswith("data:")
        return "always giving the most frequent answer" if own else "a solver that guesses the one decision"

    @property
    def branch_position(self) -> int | None:
        """The same, counted from 1."""
        return None if self.branch is None else self.branch + 1

    @property
    def marks(self) -> dict[str, Mark]:
        """How its objectives are drawn where it stands alone."""
        return assign_marks([group.label for group in self.groups])

    @property
    def short_title(self) -> str:
        """The title without the backbone."""
        return self.title.partition(" · ")[0]

    @property
    def repeated(self) -> bool:
        """Whether any of its settings ran under several seeds; a survival curve of one run says nothing."""
        return any(len(group.runs) > 1 for group in self.groups)

    def relative_speed(self, group: Group) -> float | None:
        """A group's examples a second beside next-token's on the same device; None where they share none."""
        found = [each.speeds for each in self.groups if each.spec.objective.partition(":")[0] == "next-token"]
        theirs = found[0] if found else {}
        return next((speed / theirs[device] for device, speed in group.speeds.items() if theirs.get(device)), None)


def arrange(runs: Sequence[Run]) -> tuple[Section, ...]:
    """Sections in the order in which their first run was given; groups likewise."""
    labels, sections, ids = _labels({run.spec.objective for run in runs}), [], count(1)
    places: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        places.setdefault((run.spec.task, run.spec.backbone), []).append(run)
    for (task, backbone), here in places.items():
        alike: dict[Settings, list[Run]] = {}
        # Devices are told apart only where a run was made again on another.
        again = len({run.spec.model_copy(update={"device": "cpu"}) for run in here}) < len(here)
        same = {"seed": 0} if again else {"seed": 0, "device": "cpu"}
        for run in sorted(here, key=lambda run: run.spec.seed):
            alike.setdefault(run.spec.model_copy(update=same), []).append(run)
        groups = []
        for spec in dict.fromkeys(run.spec.model_copy(update=same) for run in here):
            others = [other for other in alike if other.objective == spec.objective]
            label = labels[spec.objective] + _special(spec, others)
            groups.append(Group(f"made-{next(ids)}", label, tuple(alike[spec])))
        several = len({other for where, other in places if where == task}) > 1
        title = task_title(task) + (f" · {short_backbone(backbone)}" if several else "")
        chance = next((found for run in here if (found := _chance(run)) is not None), None)
        sections.append(Section(task, title, chance, tuple(groups)))
    return tuple(sections)


def folders_of(*about: Any, runs: str | Path = "runs") -> list[Path]:
    """The folders of runs, of all runs of comparisons, and those that are named, alone or in lists."""
    found: list[Path] = []
    for each in one_by_one(about):
        if isinstance(each, Comparison):
            found += [run.dir for run in each.runs]
        else:
            found.append(each.dir if isinstance(each, Run) else locate_run(each, runs))
    return found


def values_of(run: Run, row: str) -> list[float]:
    """The values of a row in the task's order, one for a scalar; empty where it was not measured."""
    found = run.rows.get(row, [])
    return [each["value"] for each in (found if isinstance(found, list) else [found])]


def describe_budget(spec: Settings) -> str:
    """The training settings that matter to a comparison, in a line."""
    kind, _, rest = spec.data.partition(":")
    data = f"{int(rest):,} fixed examples" if kind == "fixed" else f"data {rest}" if rest else "fresh examples"
    return f"up to {spec.steps:,} steps, batch {spec.batch}, learning rate {spec.lr:g}, {data}"


def task_title(task: str) -> str:
    """A task as a reader would say it: the paper's ``G(d, l)``, how many labels, and what is not at its default for a
    path-star, else its spec."""
    try:
        name, options = parse(task)
    except RequestError:
        return task
    if name != "path-star" or not {"degree", "length"} <= options.keys():
        return shorten(tasks, task)
    title, usual = f"path-star G({options.pop('degree')}, {options.pop('length')})", options_text(tasks.get(name))
    labels = [f"{options.pop('nodes')} node labels"] if "nodes" in options else []
    return ", ".join([title, *labels, *(f"{key}={value}" for key, value in options.items() if value != usual.get(key))])


def short_backbone(backbone: str) -> str:
    """A preset's name where one means the same, else as "transformer 6×128, 2 heads, positions=rotary": the sizes, then
    what is not at its default. The spec itself where it is of a plug-in that is not loaded."""
    short = shorten(backbones, backbone)
    try:
        (name, options), own = parse(resolve(backbones, backbone).text), parse(short)[1]
    except RequestError:
        return backbone
    if short in backbones.presets() or not {"layers", "width"} <= options.keys():
        return short
    heads = [f"{options['heads']} head{'' if options['heads'] == '1' else 's'}"] if "heads" in options else []
    shown = [f"{key}={value}" for key, value in own.items() if key not in ("layers", "width", "heads")]
    return ", ".join([f"{name} {options['layers']}×{options['width']}", *heads, *shown])


def _verdict(run: Run) -> Verdict | None:
    try:
        return run.verdict if run.rows else None
    except RequestError:
        return None


def _chance(run: Run) -> float | None:
    """None where the run does not say and the task is not installed here."""
    try:
        return run.chance
    except RequestError:
        return None


def _special(spec: Settings, others: Sequence[Settings]) -> str:
    """The settings in which runs of the same objective differ, as " (steps=600)"; empty where there are none."""
    rest = [other.model_dump() for other in others]
    differing = [
        f"{key}={value}"
        for key, value in spec.model_dump(exclude={"parent_steps"}).items()
        if value != "" and any(other[key] != value for other in rest)
    ]
    return f" ({', '.join(differing)})" if differing else ""


def _labels(objectives: Collection[str]) -> dict[str, str]:
    """Names of objectives without their options where that tells them apart."""
    names = Counter(objective.partition(":")[0] for objective in objectives)
    return {each: name if names[name := each.partition(":")[0]] == 1 else each for each in objectives}
