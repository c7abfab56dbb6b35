"""Tables inside README and the documentation that are made from the committed rows, between two comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import foresee
from foresee.core import files
from foresee.core.errors import RequestError
from foresee.core.spec import brief, parse
from foresee.experiments.compare import steps_to_reach
from foresee.experiments.demo import choose_pictured, demo_settings
from foresee.experiments.studies import studies
from foresee.experiments.studies.pretrained import published
from foresee.metrics.verdict import RELIABLE, SOLVED
from foresee.objectives.base import objectives
from foresee.report import write_picture
from foresee.report.groups import BRANCH_PLACE, short_backbone, task_title
from foresee.training.records import value_of
from foresee.training.run import Run
from generate.lines import read_runs

DOCUMENTS = ("README.md", "docs/choosing.md", "docs/checkpoints.md")
UNSETTLED = r" \*"
PRETRAINED = "pitfalls-pretrained"
BLOCK = re.compile(r"(<!-- table ([\w-]+), by `make docs` -->\n).*?(<!-- end of table -->)", re.DOTALL)


def write_tables(root: Path = Path()) -> None:
    """Makes every such table anew, below ``root``, the repository's folder."""
    for name in DOCUMENTS:
        files.write_text(root / name, fill_tables((root / name).read_text(encoding="utf-8"), root / "results"))


def write_demo_picture(root: Path = Path()) -> None:
    """Draws README's picture from the committed runs of the demo."""
    write_picture(choose_pictured(read_demo(root / "results")), root / "docs" / "picture.svg")


def fill_tables(text: str, results: Path) -> str:
    """The text with each table made from the runs below ``results``. Raises ``RequestError`` on an unknown table."""

    def fill(found: re.Match[str]) -> str:
        if found[2] not in TABLES:
            raise RequestError(f"there is no table {found[2]!r} to make; there are {', '.join(TABLES)}")
        return f"{found[1]}{TABLES[found[2]](results)}{found[3]}"

    return BLOCK.sub(fill, text)


def read_demo(results: Path) -> list[Run]:
    """The committed runs of the demo, in its order. Raises ``RequestError`` where one is missing."""
    runs = {run.spec.digest: run for run in read_finished(results, ["demo"])}
    for settings in demo_settings():
        if settings.digest not in runs:
            raise RequestError(f"{results / 'demo'} lacks the run of {settings.command}")
    return [runs[settings.digest] for settings in demo_settings()]


def tabulate_demo(results: Path) -> str:
    """The runs of the demo, in the order in which it trains them."""
    lines = []
    for run in read_demo(results):
        rows = [f"{value_of(run.rows, name):.3f}" if name in run.rows else "" for name in ("exact", "branch", "follow")]
        lines.append([_name(run), _graph(run), f"{run.steps:,}", *rows, f"`{run.verdict.label}`"])
    return _write(["trained with", "graph", "steps", "`exact`", "`branch`", "`follow`", "verdict"], lines)


def tabulate_defaults(results: Path) -> str:
    """What the default settings showed of next-token and its control, over all seeds that ran."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in read_finished(results, ["defaults"]):
        found.setdefault((_graph(run), _name(run)), []).append(run)
    lines = []
    for (graph, name), runs in sorted(found.items()):
        steps = [steps_to_reach(run, "rest", RELIABLE) for run in runs]
        found_by = [step for step in steps if step is not None]
        by = _range(found_by, "{:,}") + ", some never" * (0 < len(found_by) < len(steps)) or "never"
        exact = _range([value_of(run.rows) for run in runs], "{:.3f}")
        verdicts = ", ".join(sorted({f"`{run.verdict.label}`" for run in runs}))
        lines.append([name, graph, str(len(runs)), by, exact, verdicts])
    return _write(["trained with", "graph", "seeds", "look-ups by step", "`exact`", "verdict"], lines)


def tabulate_pitfalls(results: Path) -> str:
    """The paper's tables, published beside measured: each cell of the studies that has a finished run. A star marks a
    value that settles nothing, and ``docs/reading.md`` says why that may be. The study of a checkpoint cannot be asked
    for without it; ``tabulate_tuning`` has its runs."""
    lines = []
    for name in (each for each in studies.names() if each.startswith("pitfalls-") and each != PRETRAINED):
        # Runs count from the committed rows alone, whatever else was trained here.
        for cell in (cell for cell in foresee.study(name, runs=results, results=[results]).cells if cell.seeds):
            seeds = [f"{seed.value:.3f}" + UNSETTLED * seed.inconclusive for seed in cell.seeds]
            measured = ", ".join([*seeds, *([f"{len(cell.begun)} unfinished"] if cell.begun else [])])
            verdicts = ", ".join(f"`{each}`" for each in dict.fromkeys(seed.verdict for seed in cell.seeds))
            where, said = f"{cell.graph}, {cell.label}", _published(cell.published_text, cell.tag)
            lines.append([f"`{name}`", where, f"`{cell.row}`", said, measured, verdicts, cell.agreement])
    return _write(["`foresee study`", "trained", "row", "published", "measured", "verdict", "outcome"], lines)


def tabulate_pretrained(results: Path) -> str:
    """The runs of the study of a checkpoint that train all weights at the larger rate."""
    runs = read_finished(results, [PRETRAINED])
    return _tabulate_tuned([run for run in runs if "lora=none" in run.spec.backbone and run.spec.lr == 1e-4])


def tabulate_tuning(results: Path) -> str:
    """All runs of the study of a checkpoint."""
    return _tabulate_tuned(read_finished(results, [PRETRAINED]))


def _tabulate_tuned(runs: Sequence[Run]) -> str:
    """A line for all seeds of one training."""
    alike: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.spec.seed):
        network = f"`{short_backbone(run.spec.backbone)}`"
        alike.setdefault((_graph(run), network, f"{run.spec.lr:g}", _name(run)), []).append(run)
    lines = []
    for key, seeds in sorted(alike.items()):
        looked = ", ".join(_by(run, steps_to_reach(run, "rest", RELIABLE)) for run in seeds)
        verdicts = ", ".join(dict.fromkeys(f"`{run.verdict.label}`" for run in seeds))
        known = published(seeds[0].spec.objective, int(parse(seeds[0].spec.task)[1]["degree"]))
        said, exact = _published(known.text, known.tag), ", ".join(f"{value_of(run.rows):.3f}" for run in seeds)
        lines.append([*key, looked, said, exact, verdicts])
    head = ["graph", "network", "learning rate", "trained with", "look-ups by step", "published", "`exact` by seed"]
    return _write([*head, "verdict"], lines)


def _published(text: str, tag: str) -> str:
    """What was published, and how surely it is known."""
    return text + f" [{tag}]" * (tag != "unknown")


def tabulate_gpu(results: Path) -> str:
    """The runs on a GPU, finished or stopped: when each came through what G(5, 5) asks for."""
    found: dict[str, list[Run]] = {}
    for run in sorted(read_runs(results, ["gpu"]), key=lambda run: run.spec.seed):
        if run.steps >= 400:  # the rest was stopped before anything could be seen
            found.setdefault(_name(run), []).append(run)
    lines = []
    for name, runs in found.items():
        milestones = (
            lambda watched: min(watched["forced"][BRANCH_PLACE + 1 :]) >= RELIABLE,
            lambda watched: watched["branch"] >= 1.5 / 5,
            lambda watched: watched["exact"] >= SOLVED,
        )
        steps = [[_first(run, reached) for run in runs] for reached in milestones]
        if objectives.get(runs[0].spec.objective.partition(":")[0]).order != "forward":
            steps[1] = []  # what stands where the decision does is a look-up then
        ends = [f"{value_of(run.rows):.3f}" if run.rows else f"stopped at {_last(run):.3f}" for run in runs]
        lines.append([name, *("; ".join(each) for each in steps), "; ".join(ends)])
    order = sorted(lines, key=lambda line: (line[3].startswith("not"), int(re.sub(r"\D", "", line[3].split(";")[0]))))
    return _write(["objective", "look-ups by", "decision leaves chance", "solved at", "`exact`"], order)


def _first(run: Run, reached: Callable[[Any], bool]) -> str:
    return _by(run, next((each["step"] for each in run.metrics if reached(each["eval"])), None))


def _by(run: Run, step: int | None) -> str:
    return f"not by {run.steps:,}" if step is None else f"{step:,}"


def _last(run: Run) -> float:
    return float(run.metrics[-1]["eval"]["exact"])


TABLES: dict[str, Callable[[Path], str]] = {
    "demo": tabulate_demo,
    "gpu": tabulate_gpu,
    "defaults": tabulate_defaults,
    "pitfalls": tabulate_pitfalls,
    "pretrained": tabulate_pretrained,
    "tuning": tabulate_tuning,
}


def read_finished(results: Path, folders: Sequence[str]) -> list[Run]:
    """Those of ``read_runs`` that are finished."""
    return [run for run in read_runs(results, folders) if run.rows]


def _range(values: Sequence[float], shown: str) -> str:
    ends = dict.fromkeys(shown.format(each) for each in (min(values), max(values))) if values else ()
    return " to ".join(ends)


def _name(run: Run) -> str:
    return f"`{brief(objectives, run.spec.objective)}`"


def _graph(run: Run) -> str:
    title = task_title(run.spec.task).removeprefix("path-star ")
    return title[: title.find(")") + 1]


def _write(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = (head, ["---"] * len(head), *lines)
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in row)}|\n" for row in rows)
