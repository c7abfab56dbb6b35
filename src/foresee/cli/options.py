"""The options that commands share, and how commands print."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console


def load_plugins(paths: list[Path]) -> list[Path]:
    """Imports plug-in files as the option is read, before any spec is."""
    from foresee.core.registry import load_plugin_file

    for path in paths:
        load_plugin_file(path)
    return paths


class Split(StrEnum):
    """Which examples."""

    train = "train"
    test = "test"


class FileFormat(StrEnum):
    """How examples are written."""

    text = "text"
    jsonl = "jsonl"


Plugin = Annotated[
    list[Path],
    typer.Option("--plugin", callback=load_plugins, is_eager=True, help="A Python file that registers more."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Runs = Annotated[Path, typer.Option("--runs", help="The folder that holds runs.")]
Track = Annotated[
    str | None, typer.Option("--track", help="Mirror runs in tensorboard or wandb, beside their own files.")
]
TaskSpec = Annotated[str, typer.Argument(metavar="TASK", help="As in path-star:degree=2,length=5,nodes=50.")]
Backbone = Annotated[str, typer.Option(help="A preset or spec.")]
BatchSize = Annotated[int, typer.Option("--batch", help="Examples a step.")]


def data_source(text: str) -> str:
    """``--data``: a file's path may stand alone."""
    path = Path(text)
    bare = ":" not in text and (path.suffix or path.is_file())
    return f"file:{text}" if bare else text


class Output(Console):
    """Standard output, whose reader may go away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def emit(value: Any) -> None:
    """The one JSON object on standard output."""
    print(json.dumps(value, allow_nan=False))
