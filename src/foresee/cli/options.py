"""The options that commands share, and how commands print."""

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foresee.core.files import NO_LOCKS

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Runs = Annotated[Path, typer.Option("--runs", file_okay=False, help="The folder that holds runs.")]
Track = Annotated[
    str | None, typer.Option("--track", help="Mirror runs in tensorboard or wandb, beside their own files.")
]


def complete_specs(*kinds: str) -> Callable[[str], list[str]]:
    """What a shell offers for the beginning of a spec, or of the last of several that commas join: names of ``kinds``,
    and the options of the one that is named."""

    def complete(incomplete: str) -> list[str]:
        from foresee.cli.list import listing

        listed = {name: entry for kind in kinds for name, entry in listing()[kind].items() if " " not in name}
        before, comma, last = incomplete.rpartition(",")
        entry = listed.get(incomplete.partition(":")[0])
        if ":" in incomplete and entry is not None:
            lead = f"{before}," if comma else f"{incomplete.partition(':')[0]}:"
            return [f"{lead}{option}=" for option in entry.get("options", {}) if f"{option}=" not in incomplete]
        return [f"{before}{comma}{name}" for name in listed if name.startswith(last)]

    return complete


RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its digest or the start of that.")]
TaskSpec = Annotated[
    str,
    typer.Argument(
        metavar="TASK", help="As in path-star:degree=2,length=5,nodes=50.", autocompletion=complete_specs("tasks")
    ),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(help="What to train; next-token by default.", autocompletion=complete_specs("objectives")),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(help="A preset or spec; a small Transformer by default.", autocompletion=complete_specs("backbones")),
]
Page = Annotated[Path | None, typer.Option("--report", dir_okay=False, help="Also write a page.")]
DataMoved = Annotated[
    Path | None, typer.Option("--data", help="Where the run's own rows lie now, where they have moved.")
]
PromptField = Annotated[str, typer.Option("--prompt", help="The field of the prompts, where DATA is a file.")]
AnswerField = Annotated[str, typer.Option("--answer", "--response", help="The field of the answers.")]
Template = Annotated[
    str | None, typer.Option("--template", help=r"The prompt of several fields, as in '{instruction}\n{input}'.")
]
TestData = Annotated[
    str | None,
    typer.Option("--test-data", "--test-file", help="A file of rows to test on; by default one prompt in eight."),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="The most runs at a time; by cores and memory by default.")]


@dataclass(frozen=True)
class Machines:
    """What trains many runs; a parameter of this type stands for an option a field."""

    engine: Annotated[
        Literal["local", "batched", "ray", "slurm"],
        typer.Option(
            help="local: beside each other on this machine; batched: all seeds and learning rates as one program; "
            "ray or slurm: on that cluster."
        ),
    ] = "local"
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, as in 10.0.0.1:6379; started here by default.")
    ] = None
    slurm: Annotated[
        list[str] | None, typer.Option(help="An option of a Slurm job, as in partition=gpu; repeatable.")
    ] = None
    jobs: Jobs = None
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each run; 1 by default.")] = None

    def make_engine(self) -> Any:
        """The engine that was asked for."""
        from foresee.experiments.engine import make_engine

        return make_engine(
            self.engine, jobs=self.jobs, threads=self.threads, address=self.address, slurm=self.slurm or ()
        )


def redirect_workers() -> AbstractContextManager[Any]:
    """Within it what is printed goes to standard error: Ray reports a lost worker on standard output, which is for
    results alone."""
    return redirect_stdout(sys.stderr)


def _load_plugins(paths: list[Path]) -> list[Path]:
    """Imports plug-in files as the option is read, before any spec is."""
    from foresee.core.plugins import load_plugin_file

    for path in paths:
        load_plugin_file(path)
    return paths


def _set_no_lock(given: bool) -> bool:
    """Tells this process and those that it starts, as the option is read."""
    if given:
        os.environ[NO_LOCKS] = "1"
    return given


NoLock = Annotated[
    bool,
    typer.Option("--no-lock", callback=_set_no_lock, is_eager=True, help="Lock no files, where that cannot be done."),
]
Plugin = Annotated[
    list[Path],
    typer.Option("--plugin", callback=_load_plugins, is_eager=True, help="A Python file that registers more."),
]


def add_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with ``--plugin`` and ``--no-lock``, and with options where it has a parameter that stands for
    several: one a field of a dataclass, and one a setting of a run for ``settings``, which is given those that the
    command line names, as a dictionary."""
    own: Mapping[str, Any] = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, tuple[list[inspect.Parameter], Callable[..., Any]]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if name == "settings":
            groups[name] = _settings(own), dict
        elif is_dataclass(parameter.annotation):
            kind: Any = parameter.annotation
            groups[name] = list(inspect.signature(kind, eval_str=True).parameters.values()), kind
        parameters += groups[name][0] if name in groups else [parameter]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    parameters.append(inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    for name, default, kind in (("plugin", [], Plugin), ("no_lock", False, NoLock)):
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))

    @functools.wraps(command)
    def taking_options(*, context: typer.Context, plugin: list[Path], no_lock: bool, **given: Any) -> None:
        for name, (options, build) in groups.items():
            values = {each.name: given.pop(each.name) for each in options}
            if name == "settings":
                values = {each: value for each, value in values.items() if _is_given(context, each)}
            given[name] = build(**values)
        command(**given)

    # Typer reads a command's signature and its annotations.
    taking_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions may have one
    taking_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return taking_options


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether the command line names an option, be it with its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _settings(own: Collection[str]) -> list[inspect.Parameter]:
    """An option for each setting that is not a command's own; how many processes share a batch, torchrun says."""
    from foresee.training.settings import settable

    found = []
    for name, kind, default, description in settable():
        if name not in (*own, "processes"):
            flag = f"--{name.replace('_', '-')}"  # alone, so that a switch has no opposite
            declared = typer.Option(flag, help=description, callback=_data_source if name == "data" else None)
            option = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            found.append(option.replace(annotation=Annotated[kind, declared]))
    return found


def _data_source(text: str) -> str:
    """``--data``: a file's path may stand alone."""
    path = Path(text)
    return f"file:{text}" if ":" not in text and (path.suffix or path.is_file()) else text


def output(**options: Any) -> Any:
    """A console on standard output, whose reader may go away."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Output(highlight=False, **options)


def emit(value: Any) -> None:
    """The one JSON object on standard output."""
    print(json.dumps(value, allow_nan=False))
