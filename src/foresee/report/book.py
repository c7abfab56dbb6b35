"""What the sections of one page share: the runs in order, how each objective is drawn, and where it says how each was
made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from foresee.experiments.studies.result import StudyResult
from foresee.report.groups import Group, Setting, marks_of
from foresee.report.load import RunRecord
from foresee.report.markup import text
from foresee.report.parameters import Counter
from foresee.report.style import Mark
from foresee.report.words import task_title


@dataclass(frozen=True)
class Book:
    """``damaged`` has a sentence on each run that could not be read."""

    settings: tuple[Setting, ...]
    records: tuple[RunRecord, ...]
    studies: tuple[StudyResult, ...] = ()
    damaged: tuple[str, ...] = ()

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Every group, in order."""
        return tuple(group for setting in self.settings for group in setting.groups)

    @cached_property
    def marks(self) -> dict[str, Mark]:
        """How each objective is drawn, by the name of its group."""
        return marks_of(self.settings)

    @cached_property
    def places(self) -> dict[str, int]:
        """The number by which the page's controls find an objective."""
        return {name: place for place, name in enumerate(dict.fromkeys(group.name for group in self.groups))}

    @cached_property
    def labels(self) -> dict[str, str]:
        """What each objective is called, by the name of its group."""
        return {group.name: group.label for group in self.groups}

    @cached_property
    def _anchors(self) -> dict[int, str]:
        return {id(group): f"made-{number}" for number, group in enumerate(self.groups, start=1)}

    @cached_property
    def _of_run(self) -> dict[str, Group]:
        return {run.record.directory.name: group for group in self.groups for run in group.runs}

    @cached_property
    def _counter(self) -> Counter:
        return Counter()

    def parameters(self, group: Group) -> int | None:
        """Trained numbers of one of a group's models; None where that is not known."""
        known = group.parameters
        return self._counter.count(group.task, group.objective, group.backbone) if known is None else known

    def anchor(self, group: Group) -> str:
        """The id of the place that says how a group was made."""
        return self._anchors[id(group)]

    def again(self, group: Group) -> str:
        """A link to that place."""
        return f'<a class="again" href="#{self.anchor(group)}">how to reproduce</a>'

    def again_run(self, digest: str) -> str:
        """The same for a run, by the name of its directory; the name alone where it is not on the page."""
        group = self._of_run.get(digest)
        return f"<code>{text(digest)}</code>" if group is None else self.again(group)

    def heading(self, setting: Setting) -> str:
        """A sub-heading that says which task and, where one task has several, which backbone; none where there is
        one setting."""
        if len(self.settings) == 1:
            return ""
        return f"<h3>{text(self.name_of(setting))}</h3>"

    def name_of(self, setting: Setting) -> str:
        """The task and, where one task has several backbones, the backbone."""
        same = [other for other in self.settings if other.task == setting.task]
        return task_title(setting.task) + (f" · {setting.short_backbone}" if len(same) > 1 else "")


def source(said: str) -> str:
    """Where the numbers of a section come from and what gives them again; ready-made HTML."""
    return f'<p class="source"><b>How to reproduce.</b> {said}</p>'


def by_task(settings: Sequence[Setting]) -> dict[str, tuple[Setting, ...]]:
    """Settings by task, in order."""
    tasks = dict.fromkeys(setting.task for setting in settings)
    return {task: tuple(setting for setting in settings if setting.task == task) for task in tasks}
