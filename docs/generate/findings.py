"""docs/findings.md and its figure, from the committed rows: what repairs next-token training, and at what cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.core.spec import brief
from foresee.experiments.compare import ObjectiveRuns
from foresee.experiments.studies.run import OTHER_DEVICE, plan, read
from foresee.experiments.studies.show import probability
from foresee.metrics.intervals import Row, rate
from foresee.metrics.verdict import SOLVED
from foresee.objectives.base import objectives
from foresee.report import charts, frames
from foresee.report.groups import Group, short_backbone, task_title
from foresee.report.style import draw_svg
from foresee.training.run import Run, find_runs
from generate.drawing import render

FOLDERS = (
    "objectives", "objective-search", "graph-size", "pitfalls", "first-token", "defaults", "demo", "teacherless",
    "mamba", "gpu",
)  # fmt: skip
"""Below ``results``: the runs that the page stands on; of equals the first folder's."""
STUDY, LARGER = "objectives", "graph-size"
SEEDS = 3
"""The least number of finished runs that a curve of the figure stands on."""


@dataclass(frozen=True)
class Line:
    """One objective on one graph and network, over its seeds."""

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
    def solved_at(self) -> list[int]:
        """The steps at which its finished runs solved."""
        return [step for step in self.group.steps_to_solve if step is not None]

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


def write_findings(root: Path = Path()) -> Path:
    """Writes ``docs/findings.md`` and ``docs/findings.svg`` below ``root``, the repository's folder. Raises
    ``RequestError`` where it has no committed runs."""
    runs = read_runs(root / "results", FOLDERS)
    if not runs:
        raise RequestError(f"{root / 'results'} holds no runs to report; run this in the root of the repository")
    study = read(plan(STUDY, "laptop", root / "results" / STUDY, [root / "results"]))
    lines = gather(runs)
    sizes = {cell.graph: task_title(cell.runs[0].task) for cell in plan(LARGER, results=[root / "results"]).cells}
    best = choose_best([line for line in lines if line.graph == task_title(study.cells[0].task)])
    larger = {name: choose_best([line for line in lines if line.graph == title]) for name, title in sizes.items()}
    twins = pair(runs, read_runs(root / "results", [OTHER_DEVICE]))
    again = {
        key(line): [twin.group.exact[1] >= SOLVED for twin in twins if key(twin) == key(line)]
        for line in sum(larger.values(), best)
    }
    page = render(
        "findings.md.j2", lines=lines, study=study, claims=[claim for claim in study.claims if claim.shown],
        twins=twins, again=again, best=best, larger=larger, key=key, probability=probability,
    )  # fmt: skip
    out = root / "docs" / "findings.md"
    files.write_text(out, page)
    if curves := [line for line in best if is_drawn(line)]:
        groups = [Group(f"line-{at}", line.label, line.begun) for at, line in enumerate(curves)]
        figure = charts.survival(frames.survival(groups)).properties(width=820, height=300)  # as wide as its legend
        files.write_text(out.with_suffix(".svg"), draw_svg(figure))
    return out


def key(line: Line) -> tuple[str, str, str]:
    """What tells a line of these pages from others."""
    return line.graph, line.label, line.settings


def is_drawn(line: Line) -> bool:
    """Whether the figure has a curve of it: enough seeds of which one solved, or the objective that others repair."""
    return line.objective == "next-token" or (line.group.seeds_solved > 0 and len(line.group.runs) >= SEEDS)


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
    """The runs below those of these folders that are there, each training once: a run may lie in several, and of runs
    that differ only in when they end or what they measure, one goes on where the other stops: the one with the largest
    budget is taken, as by the studies."""
    places = [results / name for name in folders if (results / name).is_dir()]
    runs = [run for run in find_runs(*places) if isinstance(run, Run)]
    longest: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (not run.rows, -run.spec.steps, -run.steps)):
        longest.setdefault(_training(run), run)
    return [run for run in runs if longest[_training(run)] is run]


def pair(runs: Sequence[Run], others: Sequence[Run]) -> list[Line]:
    """A line for each of the other device's runs, after its twin of the same settings and seed."""
    known = {_training(run): run for run in runs if run.rows}
    twins = [(known[_training(run)], run) for run in others if run.rows and _training(run) in known]
    lines = [line for twin in twins for line in gather(list(twin))]
    return sorted(lines, key=lambda line: (line.objective, line.group.runs[0].spec.seed))


def _training(run: Run, *apart: str) -> str:
    """The settings that decide the weights at any one step, on one kind of device, but for these."""
    ends = {"eval_every", "test", "until_solved", *(("steps",) if run.spec.schedule == "constant" else ())}
    return run.spec.model_dump_json(exclude=ends | {"device", *apart})


def gather(runs: list[Run]) -> list[Line]:
    """One line for each training but for its seed, smaller graphs and more solved seeds first. Where the learning rate
    is constant runs of unlike steps stand together, since each ends where it solves."""
    alike: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.spec.seed):
        alike.setdefault(_training(run, "seed", "precision"), []).append(run)
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
