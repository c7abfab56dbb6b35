"""The command line. Exit status: 0 done, 1 the work failed, 2 the request was wrong."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from foresee.cli_options import (
    Accumulate,
    AsJson,
    Backbone,
    BatchSize,
    Beta2,
    Clip,
    DataSource,
    Device,
    EvalEvery,
    FileFormat,
    LearningRate,
    Output,
    Plugin,
    Precision,
    Recompute,
    Runs,
    Schedule,
    Split,
    Steps,
    TaskSpec,
    TestSize,
    UntilSolved,
    Warmup,
    WeightDecay,
    data_source,
    emit,
)
from foresee.errors import ForeseeError, RequestError

# Typer carries its own copy of click and exports only the leaves of its exceptions; this is their common base.
ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    help="Shows where next-token training fails to look ahead, why, and which training objective repairs it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command("list")
def list_command(
    kind: Annotated[
        str, typer.Argument(help="tasks, objectives, backbones or diagnostics; all of them by default.")
    ] = "",
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006  # typer copies it
) -> None:
    """Shows what can be named in a spec, with its options."""
    from foresee.backbones.base import backbones
    from foresee.diagnostics.base import diagnostics
    from foresee.objectives.base import objectives
    from foresee.registry import nearest
    from foresee.spec import options_text
    from foresee.tasks.base import tasks

    registries: dict[str, Any] = {
        "tasks": tasks, "objectives": objectives, "backbones": backbones, "diagnostics": diagnostics,
    }  # fmt: skip
    if kind and kind not in registries:
        raise RequestError(f"unknown kind {kind!r}: {nearest(kind, list(registries))}")
    chosen = {kind: registries[kind]} if kind else registries
    if as_json:
        listed: dict[str, dict[str, Any]] = {}
        for name, registry in chosen.items():
            classes = {entry: registry.get(entry) for entry in registry.names()}
            listed[name] = {key: {"summary": cls.summary, "options": options_text(cls)} for key, cls in classes.items()}
            listed[name] |= {key: {"preset": spec} for key, spec in registry.presets().items()}
        emit(listed)
        return
    console = Output()
    for name, registry in chosen.items():
        shown = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for entry in registry.names():
            cls = registry.get(entry)
            options = ",".join(f"{key}={default}" for key, default in options_text(cls).items())
            shown.add_row(entry, f"{cls.summary}\n{options}" if options else cls.summary)
        for entry, spec in registry.presets().items():
            shown.add_row(entry, f"preset for {spec}")
        console.print(shown, markup=False)
        console.print()


@app.command()
def generate(
    task: TaskSpec,
    n: Annotated[int, typer.Option("-n", help="How many examples.")] = 1000,
    split: Annotated[Split, typer.Option(help="Which split.")] = Split.train,
    seed: Annotated[int, typer.Option(help="Which stream of examples.")] = 0,
    file_format: Annotated[FileFormat, typer.Option("--format", help="text is the paper's form.")] = FileFormat.text,
    out: Annotated[Path | None, typer.Option(help="A file; standard output by default.")] = None,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """Writes examples of a task."""
    from foresee.data import draw, write_examples
    from foresee.spec import resolve
    from foresee.tasks.base import tasks

    resolved = resolve(tasks, task)
    built = resolved.build()
    write_examples(built, draw(built, resolved.text, split.value, n, seed), out or sys.stdout, file_format.value)


@app.command()
def train(
    task: TaskSpec,
    objective: Annotated[str, typer.Option(help="What to train; see foresee list objectives.")] = "next-token",
    backbone: Backbone = "gpt-nano",
    steps: Steps = 1000,
    batch: BatchSize = 256,
    lr: LearningRate = 1e-3,
    seed: Annotated[int, typer.Option(help="Of weights, training examples and their order.")] = 0,
    data: DataSource = "200000",
    test: TestSize = 20_000,
    eval_every: EvalEvery = 100,
    warmup: Warmup = 100,
    schedule: Schedule = "constant",
    weight_decay: WeightDecay = 0.01,
    beta2: Beta2 = 0.999,
    clip: Clip = 1.0,
    precision: Precision = "auto",
    device: Device = "auto",
    until_solved: UntilSolved = False,
    accumulate: Accumulate = 1,
    recompute: Recompute = False,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """Trains, measures and saves one run; the same command continues an interrupted one."""
    from foresee.progress import on_standard_error
    from foresee.run_spec import RunSpec
    from foresee.show import show_run
    from foresee.train import train as train_spec

    spec = RunSpec.of(
        task, objective, backbone, steps=steps, batch=batch, lr=lr, seed=seed, data=data_source(data), test=test,
        eval_every=eval_every, warmup=warmup, schedule=schedule, weight_decay=weight_decay, beta2=beta2, clip=clip,
        precision=precision, device=device, until_solved=until_solved, accumulate=accumulate, recompute=recompute,
    )  # fmt: skip
    run = train_spec(spec, runs, on_standard_error())
    emit(run.json()) if as_json else show_run(run, Output())


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.")],
    data: Annotated[Path | None, typer.Option(help="A file of examples, instead of the run's test examples.")] = None,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """Measures a finished run again."""
    import dataclasses

    from foresee.evaluate import evaluate as measure
    from foresee.run import load
    from foresee.show import show_run

    loaded = load(run)
    measured = dataclasses.replace(loaded, rows=measure(loaded, data))
    emit(measured.json()) if as_json else show_run(measured, Output())


@app.command()
def compare(
    task: TaskSpec,
    names: Annotated[str, typer.Option("--objectives", help="Specs joined by commas.")],
    backbone: Backbone = "gpt-nano",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each, from 0.")] = 3,
    steps: Steps = 1000,
    batch: BatchSize = 256,
    lr: LearningRate = 1e-3,
    data: DataSource = "200000",
    test: TestSize = 20_000,
    eval_every: EvalEvery = 100,
    warmup: Warmup = 100,
    schedule: Schedule = "constant",
    weight_decay: WeightDecay = 0.01,
    beta2: Beta2 = 0.999,
    clip: Clip = 1.0,
    precision: Precision = "auto",
    device: Device = "auto",
    until_solved: UntilSolved = False,
    accumulate: Accumulate = 1,
    recompute: Recompute = False,
    runs: Runs = Path("runs"),
    report: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """Trains objectives on one task over seeds, always with the positive control (reversed)."""
    from foresee.backbones.base import backbones
    from foresee.compare import compare as run_all
    from foresee.progress import on_standard_error
    from foresee.run_spec import RunSpec
    from foresee.show import show_groups
    from foresee.spec import brief, split_list
    from foresee.tasks.base import tasks

    chosen = split_list(names)
    spec = RunSpec.of(
        task, chosen[0], backbone, steps=steps, batch=batch, lr=lr, data=data_source(data), test=test,
        eval_every=eval_every, warmup=warmup, schedule=schedule, weight_decay=weight_decay, beta2=beta2, clip=clip,
        precision=precision, device=device, until_solved=until_solved, accumulate=accumulate, recompute=recompute,
    )  # fmt: skip
    groups = run_all(spec, chosen, seeds, runs, on_standard_error())
    if report is not None:
        from foresee.report import write_report

        write_report([run.dir for group in groups for run in group.runs], report)
    if as_json:
        emit({"task": spec.task, "backbone": spec.backbone, "groups": [group.json() for group in groups]})
    else:
        show_groups(groups, f"{brief(tasks, spec.task)} with {brief(backbones, spec.backbone)}", Output())


@app.command()
def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN ...]", help="Run directories; all in --runs by default.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The page to write.")] = Path("report.html"),
    root: Runs = Path("runs"),
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """Writes one self-contained page about finished runs."""
    from foresee.report import write_report

    chosen = runs or sorted(path.parent for path in root.glob("*/spec.json"))
    if not chosen:
        raise RequestError(f"{root} holds no runs; name some, or train one first")
    print(write_report(chosen, out, title=title))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The checkpoint folder to write; must not exist yet.")],
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """Writes a finished run as a standard checkpoint folder that the transformers library loads."""
    from foresee.export import export as write
    from foresee.run import load

    print(write(load(run), out))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for its runs and its page.")] = Path("foresee-demo"),
) -> None:
    """Shows the failure and its cures in a few minutes: next-token, reversed and teacherless training on path-star."""
    from foresee.demo import demo as show

    show(out, Output())


@app.command()
def bench(
    task: Annotated[str, typer.Option(help="A task's spec.")] = "path-star:degree=2,length=5,nodes=50",
    backbone: Backbone = "transformer:layers=6,width=384,heads=6",
    objective: Annotated[str, typer.Option(help="An objective's spec.")] = "next-token",
    batch: BatchSize = 256,
    as_json: AsJson = False,
    plugin: Plugin = [],  # noqa: B006
) -> None:
    """Measures speed on this machine: examples a second, and the share of its matrix-product rate."""
    from foresee.bench import bench as measure
    from foresee.bench import show

    measured = measure(task=task, backbone=backbone, objective=objective, batch=batch)
    emit(measured) if as_json else show(measured, Output())


def main() -> None:
    """Runs the command line; every expected failure is one sentence on standard error."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(status())


def status() -> int:
    """Runs the command that the program was started with, and gives its exit status."""
    try:
        # Not app(): it would turn Ctrl-C into status 130 and a closed pipe into status 1 before they come here.
        command = typer.main.get_command(app)
        with command.make_context("foresee", sys.argv[1:] or ["--help"]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as done:
        return done.exit_code
    except ForeseeError as error:
        return failed(str(error), error.status)
    except ClickException as error:
        return failed(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        return failed("stopped", 1)
    except BrokenPipeError:
        # The reader went away, as in `foresee generate ... | head`; Python would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return failed(f"{error.filename or 'standard output'} could not be read or written: {error.strerror}", 1)
    return 0


def failed(sentence: str, exit_status: int) -> int:
    """Says what went wrong."""
    print(f"foresee: {sentence}", file=sys.stderr)
    return exit_status
