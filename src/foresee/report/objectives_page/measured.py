"""The measured table, read from the runs of the study that trains every objective on one task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from foresee.backbones.base import backbones
from foresee.core.errors import RequestError
from foresee.core.spec import brief, resolve
from foresee.experiments.compare import Group
from foresee.metrics.verdict import SOLVED
from foresee.objectives.base import objectives
from foresee.report.objectives_page.words import table, wrapped
from foresee.report.words import budget, number, task_title
from foresee.training.run import Run, load

STUDY = "laptop-objectives"
FREE = ("objective", "plugins", "seed")
BASELINE = "next-token"
HEAD = ("objective", "solved", "`exact` by seed", "steps to solve", "speed", "parameters", "verdict")
COLUMNS = (
    f"*Solved*: seeds with `exact` of at least {SOLVED}. *Steps to solve*: the first evaluation during training that "
    f"reached {SOLVED}, by seed. *Speed*: training examples a second, the median over seeds, where next-token's in the "
    "same study is 1; other work ran on the same processor, which can slow a run down several times, so see "
    "[`performance.md`](performance.md) for costs measured side by side. *Parameters*: all that are "
    "trained, dropped parts included."
)


@dataclass(frozen=True)
class Measured:
    """One objective's finished runs of the study. ``speed`` is the median of its examples a second."""

    group: Group
    speed: float
    parameters: int

    @property
    def solved(self) -> int:
        """How many seeds solved."""
        return sum(value >= SOLVED for value in self.group.exact)


def read_study(folder: Path) -> list[Measured]:
    """The finished runs by objective, seeds in order. Raises ``RequestError`` where a run is damaged or differs from
    the others in more than objective and seed."""
    runs = [load(each) for each in sorted(folder.iterdir()) if (each / "rows.jsonl").exists()]
    settings = {tuple(sorted((key, value) for key, value in vars(run.spec).items() if key not in FREE)) for run in runs}
    if len(settings) > 1:
        raise RequestError(f"{folder}: its runs differ in more than objective and seed, so one table cannot hold them")
    by_objective: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.spec.objective, run.spec.seed)):
        by_objective.setdefault(run.spec.objective, []).append(run)
    return [_measured(Group(name, tuple(group))) for name, group in by_objective.items()]


def unfinished(folder: Path) -> int:
    """Runs of the study that have begun but not ended."""
    return sum(1 for each in folder.iterdir() if (each / "spec.json").exists() and not (each / "rows.jsonl").exists())


def _measured(group: Group) -> Measured:
    speeds = [_examples_per_second(run) for run in group.runs]
    made = group.runs[0].spec.build_objective(group.runs[0].task)
    return Measured(group, median(speeds), sum(parameter.numel() for parameter in made.parameters()))


def _examples_per_second(run: Run) -> float:
    return run.timing[-1]["examples_per_second"]


def measured_table(folder: Path, order: Sequence[str]) -> str:
    """The table in Markdown with what it was measured on, or a sentence that says that it was not. ``order`` is that
    of the page."""
    if not folder.is_dir() or not any(folder.glob("*/rows.jsonl")):
        return f"Not measured yet: there are no finished runs under `results/{STUDY}`."
    study = sorted(read_study(folder), key=lambda each: (order.index(_name(each)), each.group.objective))
    base = next((each.speed for each in study if _name(each) == BASELINE), None)
    spec = study[0].group.runs[0].spec
    stopped = ", stopped once solved" if spec.until_solved else ""
    setting = (
        f"{task_title(spec.task)}, `{brief_backbone(spec.backbone)}`, {budget(vars(spec))}{stopped}; `exact` on "
        f"{spec.test:,} test examples, seeds {listed_seeds(study)}. The runs are under `results/{STUDY}`."
    )
    parts = [wrapped(setting), table(HEAD, [_row(each, base) for each in study]), wrapped(COLUMNS)]
    missing = [name for name in order if name not in {_name(each) for each in study}]
    if missing:
        parts.append(wrapped(f"No finished runs yet: {', '.join(f'`{name}`' for name in missing)}."))
    if waiting := unfinished(folder):
        parts.append(f"Runs of the study that are unfinished and not counted: {waiting}.")
    return "\n\n".join(parts)


def brief_backbone(text: str) -> str:
    """A backbone's preset name where one means the same, else its options that are not at their defaults."""
    same = [name for name in backbones.presets() if resolve(backbones, name).text == text]
    return same[0] if same else brief(backbones, text)


def listed_seeds(study: Sequence[Measured]) -> str:
    """The seeds that occur."""
    return ", ".join(map(str, sorted({run.spec.seed for each in study for run in each.group.runs})))


def _name(measured: Measured) -> str:
    return measured.group.objective.partition(":")[0]


def _row(each: Measured, base: float | None) -> tuple[str, ...]:
    runs = each.group.runs
    steps = [
        f"{first:,}" if first is not None else f"not within {run.steps:,}"
        for first, run in zip(each.group.steps_to_solve, runs, strict=True)
    ]
    verdicts = Counter(run.verdict.name + (" (inconclusive)" if run.verdict.inconclusive else "") for run in runs)
    said = ", ".join(f"`{name}`" + (f" × {count}" if len(verdicts) > 1 else "") for name, count in verdicts.items())
    return (
        f"`{brief(objectives, each.group.objective)}`",
        f"{each.solved} of {len(runs)}",
        ", ".join(map(number, each.group.exact)),
        steps[0] if len(set(steps)) == 1 else ", ".join(steps),
        "–" if base is None else f"{each.speed / base:.2f}",
        f"{each.parameters:,}",
        said,
    )
