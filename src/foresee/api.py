"""What ``import foresee`` offers: the command line's words as functions, which the command line itself calls."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foresee.backbones.base import Backbone, backbones, refuse_missing
from foresee.core.errors import RequestError
from foresee.core.isolation import fresh_torch_state
from foresee.core.plugins import load_plugin_file
from foresee.core.seeds import torch_stream
from foresee.core.spec import describe, resolve, split_list
from foresee.core.vocabulary import Vocabulary
from foresee.experiments.engine import Engine
from foresee.objectives.base import Objective, objectives
from foresee.tasks.base import Task, tasks
from foresee.training.progress import Progress
from foresee.training.run import Run, load
from foresee.training.settings import Settings
from foresee.training.values import checked, whole_number

if TYPE_CHECKING:
    import pandas

    from foresee.experiments.compare import Comparison
    from foresee.experiments.diagnose import Diagnosis
    from foresee.experiments.studies.result import StudyResult
    from foresee.report import plot

__all__ = [
    "backbone", "compare", "diagnose", "evaluate", "export", "load", "objective", "plot", "plugin", "report", "runs",
    "study", "task", "train",
]  # fmt: skip

RunName = Run | str | Path
"""A run, its folder, or its digest or the start of that."""
Runs = RunName | Sequence[RunName]
"""Runs, alone or in lists."""


def __getattr__(name: str) -> Any:
    """``plot``, which needs Altair and pandas, once it is asked for."""
    if name == "plot":
        from foresee.report import plot

        return plot
    raise AttributeError(f"module 'foresee.api' has no attribute {name!r}")


@checked
def plugin(path: str | Path) -> None:
    """Makes known what a Python file registers, as ``--plugin`` does. Raises ``RequestError`` where it cannot be."""
    load_plugin_file(Path(path))


@checked
def task(spec: str) -> Task:
    """The task of a spec string, e.g. ``path-star:degree=2,length=5,nodes=50``."""
    return resolve(tasks, spec).build()


@checked
@fresh_torch_state()
def backbone(spec: str, vocab: Vocabulary | None = None, *, vocab_size: int | None = None, seed: int = 0) -> Backbone:
    """A backbone of a spec string or preset, e.g. ``transformer:layers=3,width=128,heads=4``, with fresh weights drawn
    by ``seed`` (but for ``hf:``, which loads them).

    It reads and scores the tokens of ``vocab``, or ``vocab_size`` tokens whose symbols are their numbers. Raises
    ``RequestError`` where not exactly one of the two is given.
    """
    if (vocab is None) == (vocab_size is None):
        raise RequestError("a backbone needs either vocab=..., e.g. task.vocab, or vocab_size=...")
    if vocab is None:
        vocab = Vocabulary(tuple(map(str, range(whole_number("vocab_size", vocab_size)))))
    resolved = resolve(backbones, spec)
    return resolved.build(vocab, torch_stream("weights", resolved.text, seed))


@checked
@fresh_torch_state()
def objective(spec: str, backbone: Backbone, vocab: Vocabulary, *, seed: int = 0) -> Objective:
    """An objective of a spec string on a backbone. Its symbols must be in ``vocab``, and the backbone's vocabulary as
    large; raises ``RequestError`` otherwise or where the backbone lacks a capability."""
    resolved = resolve(objectives, spec)
    if backbone.vocab_size != len(vocab):
        raise RequestError(f"the backbone scores {backbone.vocab_size} tokens, and the vocabulary has {len(vocab)}")
    refuse_missing(resolved.cls.needs, resolved.text, backbone, type(backbone).__name__)
    return resolved.build(backbone, vocab, torch_stream("weights", resolved.text, seed))


@checked
def train(
    task: str | Task,
    objective: str = "next-token",
    backbone: str | None = None,
    *,
    runs: str | Path = "runs",
    track: str | None = None,
    progress: bool | Progress = True,
    **settings: Any,
) -> Run:
    """Trains, measures and saves a run, or continues or returns the one of the same settings under ``runs``.

    ``settings`` are the other fields of ``Settings``: steps, batch, lr, seed, data and so on, each with its default.
    ``progress=False`` shows nothing; ``track`` is tensorboard or wandb. Under torchrun the processes share every batch.
    Raises ``RequestError`` on anything that cannot be.
    """
    from foresee.training.distributed import init_process_group
    from foresee.training.loop import train as train_run
    from foresee.training.tracking import show_progress

    world = init_process_group()
    settings = {"processes": world.world_size, **settings}
    asked = world.run_on_all(lambda: _settings(task, objective, backbone, settings))
    shown = world.run_on_all(lambda: show_progress(progress, track, Path(runs)) if world.is_main else Progress())
    return train_run(asked, runs, shown)


@checked
def compare(
    task: str | Task,
    objectives: str | Sequence[str],
    backbone: str | None = None,
    *,
    seeds: int = 3,
    runs: str | Path = "runs",
    engine: str | Engine = "local",
    jobs: int | None = None,
    track: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Comparison:
    """Trains objectives (a list, or specs joined by commas) on one task under seeds 0 to ``seeds - 1``, always with the
    positive control, reversed training.

    ``settings`` as for ``train``; ``engine`` is local, batched, ray, slurm or in-process; ``jobs`` go on at a time.
    """
    from foresee.experiments.compare import compare as compare_runs
    from foresee.training.tracking import show_progress

    names = split_list(objectives) if isinstance(objectives, str) else list(objectives)
    seeds = whole_number("seeds", seeds, 0)
    if "seed" in settings:
        raise RequestError("a comparison has no setting 'seed': did you mean seeds=3, for seeds 0, 1 and 2?")
    asked = _settings(task, names[0] if names else "next-token", backbone, settings)
    shown = show_progress(progress, track, Path(runs))
    return compare_runs(asked, names, seeds, runs, engine=engine, jobs=jobs, progress=shown)


@checked
def study(
    name: str,
    scale: str = "laptop",
    *,
    train: bool = False,
    runs: str | Path = "runs",
    results: str | Path | Sequence[str | Path] | None = None,
    engine: str | Engine = "local",
    jobs: int | None = None,
    track: str | None = None,
    progress: bool = True,
) -> StudyResult:
    """A published table beside the measured one, of what is finished; with ``train``, trains what is missing first.

    Finished runs count from ``runs`` and from ``results``, by default the rows that came with this package and the
    folder ``results`` here. Raises ``RequestError`` on what cannot be asked for, and what training raises.
    """
    from foresee.experiments.studies.run import plan, read, train_missing
    from foresee.training.tracking import show_progress

    asked = plan(name, scale, runs, [results] if isinstance(results, str | Path) else results)
    if train:
        shown = show_progress(progress, track, Path(runs))
        train_missing([asked], runs, engine=engine, jobs=jobs, progress=shown)
    return read(asked)


@checked
def diagnose(
    data: str | Path | Task, *,
    prompt: str = "prompt", answer: str = "answer", template: str | None = None, tokenizer: str = "auto",
    test_file: str | Path | None = None, skip_bad: bool = False, minutes: float = 10.0, steps: int | None = None,
    objectives: str | Sequence[str] = (), backbone: str | None = None, seeds: int = 2, batch: int = 128,
    lr: float | None = None, jobs: int | None = None, out: str | Path = "diagnosis", progress: bool = True,
) -> Diagnosis:  # fmt: skip
    """Says whether next-token training would cheat on a data set, where, and which objective learns the decisions.

    ``data`` is a file of prompts and answers, or a task or its spec; ``prompt`` and ``answer`` are a file's fields,
    ``test_file`` has rows to test on. ``objectives`` are trained beside next-token, reversed and teacherless. ``steps``
    of every run take the place of ``minutes``. Writes a page, rows and runs into ``out``, and continues what is there.
    """
    from foresee.experiments import diagnose as diagnosing
    from foresee.report.diagnosis import write_page
    from foresee.training.tracking import show_progress

    began = time.perf_counter()

    def say(said: str) -> None:
        if progress:
            limit = f" of {minutes:g}" if steps is None else ""
            used = (time.perf_counter() - began) / 60
            print(f"[{used:.1f}{limit} minutes] {said}", file=sys.stderr, flush=True)

    say("reading the data")
    chosen = None if backbone is None else resolve(backbones, backbone)
    built = diagnosing.read_task(
        _spell(data), prompt=prompt, answer=answer, template=template, tokenizer=tokenizer, skip_bad=skip_bad,
        checkpoint=chosen.options["path"] if chosen is not None and chosen.name == "hf" else None,
        test_file=None if test_file is None else str(test_file),
    )  # fmt: skip
    others = split_list(objectives) if isinstance(objectives, str) and objectives else list(objectives)
    asked = diagnosing.DiagnosisSettings.of(
        built, others=others, backbone=backbone, seeds=seeds, minutes=minutes, steps=steps, batch=batch, lr=lr
    )
    shown = show_progress(progress)
    found = diagnosing.diagnose(asked, built, Path(out), jobs=jobs, progress=shown, say=say, began=began)
    say(f"done: {write_page(found, found.page)}")
    return found


@checked
def runs(
    *folders: RunName | Sequence[RunName],
    where: str | Sequence[str] = (),
    sort: str | None = None,
    descending: bool = False,
) -> pandas.DataFrame:
    """A row for each run in ``folders`` (``runs`` by default), finished or not, with every setting and measurement.

    ``where`` keeps those that meet conditions such as ``exact>=0.95`` and ``task.degree=2``.
    """
    from foresee.training.records import locate_run, one_by_one
    from foresee.training.run import find_runs
    from foresee.training.run_table import filter_runs, runs_table, sort_runs

    named = one_by_one(folders or ["runs"])
    table = runs_table(find_runs(*(each.dir if isinstance(each, Run) else locate_run(each) for each in named)))
    table = filter_runs(table, [where] if isinstance(where, str) else where)
    return table if sort is None else sort_runs(table, sort, descending=descending)


@checked
def evaluate(run: RunName, data: str | Path | None = None, *, save: bool = False, runs: str | Path = "runs") -> Run:
    """The run, measured again: on its own test examples, or on the file ``data``. ``save`` keeps rows of metrics that
    were added since it was trained."""
    from foresee.training.evaluate import evaluate as measure
    from foresee.training.evaluate import keep_rows

    if save and data is not None:
        raise RequestError("--save keeps measurements of the run's own test examples, not of --data; leave one out")
    loaded = run if isinstance(run, Run) else load(run, runs)
    measured = dataclasses.replace(loaded, rows=measure(loaded, None if data is None else Path(data)))
    if save:
        keep_rows(loaded, measured.rows)
    return measured


@checked
def export(run: RunName, out: str | Path, *, runs: str | Path = "runs") -> Path:
    """Writes a finished run as a standard checkpoint folder that the transformers library loads; returns the folder."""
    from foresee.training.export import export as export_run

    return export_run(run if isinstance(run, Run) else load(run, runs), out)


def report(
    *about: Runs | Comparison | StudyResult, out: str | Path = "report.html", runs: str | Path = "runs",
    title: str | None = None, figures: str | Path | None = None, tables: str | Path | None = None,
    warn: Callable[[str], None] | None = None,
) -> Path:  # fmt: skip
    """Writes one self-contained page on runs, folders of runs, comparisons and studies, all below ``runs`` by default;
    returns its path. ``figures`` and ``tables`` are folders for the figures (SVG, PDF) and tables (Markdown, LaTeX);
    ``warn`` is told of damaged runs, which are left out."""
    from foresee.report import report as write

    return write(*about, out=out, runs=runs, title=title, figures=figures, tables=tables, warn=warn)


def _spell(task: str | Path | Task) -> str:
    return describe(tasks, task) if isinstance(task, Task) else str(task)


def _settings(task: str | Task, objective: str, backbone: str | None, settings: dict[str, Any]) -> Settings:
    chosen = {} if backbone is None else {"backbone": backbone}
    return Settings.of(_spell(task), objective, **chosen, **settings)
