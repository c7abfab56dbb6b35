"""Objectives against each other on one task: the same budget, the same seeds, and always the positive control."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foresee.backbones.base import backbones
from foresee.core.errors import RequestError
from foresee.core.plugins import loaded_plugin_options
from foresee.core.spec import brief, resolve, shorten
from foresee.experiments.runner import TrainingOptions, run_all
from foresee.metrics.control import find_remedies
from foresee.metrics.intervals import Row, rate
from foresee.metrics.verdict import PLAIN, SOLVED
from foresee.objectives.base import objectives
from foresee.tasks.base import tasks
from foresee.training.records import value_of
from foresee.training.run import Run
from foresee.training.settings import CONTROL, Settings
from foresee.training.witnesses import remedy, runs_option

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Unpack


@dataclass(frozen=True)
class ObjectiveRuns:
    """One objective's runs, a run a seed."""

    objective: str
    runs: tuple[Run, ...]

    @property
    def seeds_solved(self) -> int:
        """How many seeds solved."""
        return sum(value >= SOLVED for value in self.exact)

    @property
    def solved(self) -> Row:
        """Share of seeds that solved, with its Wilson interval."""
        return rate(self.seeds_solved, len(self.runs))

    @property
    def exact(self) -> list[float]:
        """``exact`` of each seed; a mean alone would hide that outcomes are bimodal."""
        return [value_of(run.rows) for run in self.runs]

    @property
    def steps_to_solve(self) -> list[int | None]:
        """For each seed, the step at which it solved, or None where it did not."""
        return [steps_to_solve(run) for run in self.runs]

    def json(self) -> dict[str, Any]:
        """One entry of ``compare --json``."""
        return {
            "objective": self.objective,
            "solved": self.solved,
            "exact": self.exact,
            "steps_to_solve": self.steps_to_solve,
            "runs": [run.json() for run in self.runs],
        }


@dataclass(frozen=True, repr=False)
class Comparison:
    """Objectives beside each other, in the order in which they were asked for; ``settings`` are what they share."""

    settings: Settings
    groups: tuple[ObjectiveRuns, ...]

    @property
    def runs(self) -> list[Run]:
        """Every run, group by group."""
        return [run for group in self.groups for run in group.runs]

    @property
    def title(self) -> str:
        """Task, backbone and budget."""
        asked = self.settings
        named = f"{shorten(tasks, asked.task)} with {shorten(backbones, asked.backbone)}"
        return f"{named}, {asked.steps:,} steps, batch {asked.batch}, learning rate {asked.lr:g}"

    @property
    def solved(self) -> list[str]:
        """How many seeds of each objective solved, in a sentence each."""
        return [
            f"{shorten(objectives, group.objective)}: {group.seeds_solved} of "
            f"{len(group.runs)} seeds solved (95 % interval {group.solved['low']:.2f} to {group.solved['high']:.2f})"
            for group in self.groups
        ]

    @property
    def reasons(self) -> list[str]:
        """What each verdict means, once; why verdicts are inconclusive, each reason once without the command for its
        seed; and the comparison that would settle them."""
        verdicts = [run.verdict for run in self.runs]
        said = [f"{verdict.name}: {PLAIN[verdict.name]}" for verdict in verdicts]
        said += [f"inconclusive: {doubt.partition(' (`')[0]}" for verdict in verdicts for doubt in verdict.doubts]
        remedies: dict[str, int] = {}
        for run, verdict in zip(self.runs, verdicts, strict=True):
            if verdict.inconclusive:
                remedies |= find_remedies(run.describe_circumstances(), self.settings.steps)
        if remedies:
            said.append(f"to settle it: {self._command(remedies)}")
        return list(dict.fromkeys(said))

    def _command(self, remedies: Mapping[str, int]) -> str:
        asked = remedy(self.settings.replace(objective="next-token", seed=0), remedies)
        words = shlex.split(asked.command)
        if not asked.plugins and any(run.spec.plugins for run in self.runs):
            words += loaded_plugin_options()
        words += runs_option(self.runs[0].dir.parent)
        names = [brief(objectives, group.objective) for group in self.groups]
        names = [name for name in names if name != CONTROL] or names
        seeds = len(self.groups[0].runs)
        return shlex.join(
            ["foresee", "compare", words[2], "--objectives", ",".join(names), "--seeds", str(seeds), *words[3:]]
        )

    @property
    def table(self) -> pandas.DataFrame:
        """A row a seed, since outcomes are bimodal: objective, seed, exact, branch, follow (missing where there is
        none), solved_at (a step), verdict, inconclusive, run."""
        import pandas

        rows = [
            {"objective": shorten(objectives, group.objective), "seed": run.spec.seed,
             **{name: value_of(run.rows, name) if name in run.rows else None for name in ("exact", "branch", "follow")},
             "solved_at": steps_to_solve(run), "verdict": run.verdict.name, "inconclusive": run.verdict.inconclusive,
             "run": run.spec.digest}
            for group in self.groups for run in group.runs
        ]  # fmt: skip
        return pandas.DataFrame(rows).astype({"solved_at": "Int64"})

    def json(self) -> dict[str, Any]:
        """The object that ``compare --json`` prints."""
        groups = [group.json() for group in self.groups]
        return {"task": self.settings.task, "backbone": self.settings.backbone, "groups": groups}

    def __repr__(self) -> str:
        table = self.table.drop(columns="run").to_string(index=False)
        return "\n".join([self.title, table, *self.solved, *self.reasons])

    def _repr_html_(self) -> str:
        said = [*self.solved, *self.reasons]
        below = "<br>".join(map(html.escape, said))
        return f"<b>{html.escape(self.title)}</b>{self.table.to_html(index=False, float_format='%.3f')}{below}"


def steps_to_solve(run: Run) -> int | None:
    """The step of the first evaluation during training that reached 0.95; None where none did, and where the final
    measurement, on more and other examples, says that the run has not solved."""
    failed = "exact" in run.rows and value_of(run.rows) < SOLVED
    return None if failed else steps_to_reach(run, "exact", SOLVED)


def steps_to_reach(run: Run, row: str, least: float) -> int | None:
    """The step of the first evaluation during training with ``row`` of at least ``least``."""
    return next((line["step"] for line in run.metrics if line["eval"].get(row, 0) >= least), None)


def compare(
    settings: Settings,
    names: Sequence[str],
    seeds: int,
    root: str | Path = "runs",
    **how: Unpack[TrainingOptions],
) -> Comparison:
    """Trains every objective under seeds 0 to ``seeds - 1``, the control first; gives them in the order of ``names``.

    ``settings`` give everything but objective and seed. The control stops once it has solved, which is all that it is
    there to show.
    """
    if seeds < 1 or not names:
        raise RequestError(f"a comparison needs at least one objective and one seed, not {len(names)} and {seeds}")
    wanted = list(dict.fromkeys(resolve(objectives, name).text for name in names))
    control = resolve(objectives, CONTROL).text
    asked = {
        name: [
            (settings.control() if name == control else settings).replace(
                objective=name, seed=seed, until_solved=settings.until_solved or name == control
            )
            for seed in range(seeds)
        ]
        for name in (control, *wanted)  # the control keeps its place at the front
    }
    runs = iter(run_all([each for group in asked.values() for each in group], root, **how))
    groups = {name: ObjectiveRuns(name, tuple(islice(runs, seeds))) for name in asked}
    return Comparison(settings, tuple(groups[name] for name in dict.fromkeys([*wanted, control])))
