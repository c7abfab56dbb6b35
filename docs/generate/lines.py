"""Committed runs gathered into lines: one objective on one graph and network, over its seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from foresee.core.spec import brief
from foresee.experiments.compare import ObjectiveRuns, steps_to_solve
from foresee.experiments.studies.run import OTHER_DEVICE
from foresee.metrics.intervals import Row, rate
from foresee.metrics.survival import Times
from foresee.metrics.survival import median as find_median
from foresee.objectives.base import objectives
from foresee.report.groups import short_backbone, task_title
from foresee.training.run import Run, find_runs
from foresee.training.settings import Settings

FOLDERS = (
    "objectives", "objective-search", "graph-size", "pitfalls", "first-token", "defaults", "demo", "teacherless",
    "mamba", "gpu", "structure", OTHER_DEVICE,
)  # fmt: skip
"""Below ``results``: the runs that the pages stand on; of equals the first folder's."""
VARIED = ("seed", "precision")
"""The settings in which the runs of a line may differ."""


@dataclass(frozen=True)
class Line:
    """One objective on one graph and network, over its draws: its seeds, and those of them that ran on two machines."""

    graph: str
    objective: str
    backbone: str
    group: ObjectiveRuns
    unfinished: tuple[Run, ...]

    @property
    def solved(self) -> Row:
        """The share of its runs that solved, with its interval: an unfinished one had not."""
        return rate(self.group.seeds_solved, len(self.begun))

    @property
    def settings(self) -> str:
        """Batch and learning rate, and over how many steps it falls where it does."""
        spec = self.begun[0].spec
        return f"batch {spec.batch}, {spec.lr:g}{f', cosine over {spec.steps:,}' if spec.schedule == 'cosine' else ''}"

    @property
    def share(self) -> str:
        """How many draws solved, with the interval of that share; so far, where some are not finished, without one: it
        can only rise."""
        solved = f"{self.group.seeds_solved} of {len(self.begun)}"
        return (
            f"{solved} so far" if self.unfinished else f"{solved} [{self.solved['low']:.2f}, {self.solved['high']:.2f}]"
        )

    @property
    def solved_at(self) -> list[int]:
        """The steps at which its finished runs solved."""
        return [step for step in self.group.steps_to_solve if step is not None]

    @property
    def median_steps(self) -> float | None:
        """Steps by which half of its runs had solved; None where fewer did."""
        return find_median(Times.of([steps_to_solve(run) for run in self.begun], [run.steps for run in self.begun]))

    @property
    def steps(self) -> list[str]:
        """Steps to solve by seed; those of a run that did not solve are marked as a bound."""
        found = zip(self.group.steps_to_solve, self.group.runs, strict=True)
        return [f"{step:,}" if step is not None else f"> {run.steps:,}" for step, run in found]

    @property
    def begun(self) -> tuple[Run, ...]:
        """All of its runs."""
        return (*self.group.runs, *self.unfinished)

    @property
    def label(self) -> str:
        """The objective, and its network where that is not the default."""
        network = self.backbone.removeprefix("transformer ").removesuffix(", positions=rotary")
        return self.objective + (f" ({network})" if network != "gpt-nano" else "")

    @property
    def verdicts(self) -> str:
        """Verdicts and how often each came; those that are not conclusive say so."""
        counts = Counter(run.verdict.label for run in self.group.runs)
        return ", ".join(f"{name} × {count}" if len(counts) > 1 else name for name, count in counts.items())

    @property
    def seconds_a_step(self) -> float | None:
        """Seconds that a step took on a CPU, the median over seeds; None where none was trained on one."""
        found = [run.seconds / run.steps for run in self.group.runs if run.spec.device == "cpu"]
        return median(found) if found else None


def choose_best(lines: Sequence[Line]) -> list[Line]:
    """For each objective the line with the highest lower bound of the share of runs that solved, of those without any
    the one that was trained longest; the surest first."""
    chosen: dict[str, Line] = {}
    for line in sorted(lines, key=_sureness):
        if line.group.runs:
            chosen[line.objective] = line
    return sorted(chosen.values(), key=_sureness, reverse=True)


def _sureness(line: Line) -> tuple[float, ...]:
    if line.solved_at:
        return line.solved["low"], len(line.group.runs), -median(line.solved_at)
    return 0.0, sum(run.steps for run in line.group.runs), max(line.group.exact, default=0.0)


def read_runs(results: Path, folders: Sequence[str]) -> list[Run]:
    """The runs below those of these folders that are there, each draw once.

    A run may lie in several, and of runs that differ only in when they end or what they measure, one may go on where
    the other stops: where all that they watched is the same, the finished one with the largest budget is taken. The
    same settings and seed that went another way, as they do on another machine, are another draw.
    """
    places = [results / name for name in folders if (results / name).is_dir()]
    runs = [run for run in find_runs(*places) if isinstance(run, Run)]
    draws: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (not run.rows, -run.spec.steps, -run.steps)):
        known = draws.setdefault(training_of(run.spec), [])
        if not any(is_same_draw(run, other) for other in known):
            known.append(run)
    return [run for run in runs if any(run is draw for draw in draws[training_of(run.spec)])]


def is_same_draw(one: Run, other: Run) -> bool:
    """Whether ``exact`` of the watched examples is the same at every step at which both were evaluated."""
    watched = {line["step"]: line["eval"]["exact"] for line in one.metrics}
    return all(watched.get(line["step"], line["eval"]["exact"]) == line["eval"]["exact"] for line in other.metrics)


def find_repeated(runs: Sequence[Run]) -> list[Line]:
    """A line for each training, seed included, that was finished in more than one draw."""
    draws: dict[str, list[Run]] = {}
    for run in runs:
        if run.rows:
            draws.setdefault(training_of(run.spec), []).append(run)
    lines = [line for found in draws.values() if len(found) > 1 for line in gather(found)]
    return sorted(lines, key=lambda line: (line.graph, line.objective, line.group.runs[0].spec.seed))


def training_of(settings: Settings, *apart: str) -> str:
    """The settings that decide the weights at any one step, on one kind of device, but for these."""
    ends = {"eval_every", "test", "until_solved", *(("steps",) if settings.schedule == "constant" else ())}
    return settings.model_dump_json(exclude=ends | {"device", *apart})


def by_training(lines: Sequence[Line]) -> dict[str, Line]:
    """Those with a finished run, by what its settings are but for ``VARIED``."""
    return {training_of(line.begun[0].spec, *VARIED): line for line in lines if line.group.runs}


def gather(runs: list[Run]) -> list[Line]:
    """One line for each training but for its seed, smaller graphs and more solved seeds first. Where the learning rate
    is constant runs of unlike steps stand together, since each ends where it solves."""
    alike: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.spec.seed):
        alike.setdefault(training_of(run.spec, *VARIED), []).append(run)
    lines = []
    for found in alike.values():
        spec, finished = found[0].spec, tuple(run for run in found if run.rows)
        lines.append(
            Line(
                task_title(spec.task),
                brief(objectives, spec.objective),
                short_backbone(spec.backbone),
                ObjectiveRuns(spec.objective, finished),
                tuple(run for run in found if not run.rows and run.metrics),
            )
        )
    return sorted(lines, key=lambda line: (len(line.graph), line.graph, line.backbone, -_share(line), line.objective))


def _share(line: Line) -> float:
    return line.solved["value"] if line.group.runs else -1.0
