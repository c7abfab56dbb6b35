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
    from foresee.registry import load_plugin_file

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
TaskSpec = Annotated[str, typer.Argument(metavar="TASK", help="As in path-star:degree=2,length=5,nodes=50.")]
Backbone = Annotated[str, typer.Option(help="A preset or spec.")]
Steps = Annotated[int, typer.Option(help="Training steps.")]
BatchSize = Annotated[int, typer.Option("--batch", help="Examples a step.")]
LearningRate = Annotated[float, typer.Option("--lr", help="Learning rate after warm-up.")]
DataSource = Annotated[str, typer.Option(help="200000 (a fixed set of that size), fresh, or a file of examples.")]
TestSize = Annotated[int, typer.Option(help="Test examples of the final measurement.")]
EvalEvery = Annotated[int, typer.Option(help="Steps between evaluations.")]
Warmup = Annotated[int, typer.Option(help="Steps of linear warm-up.")]
Schedule = Annotated[str, typer.Option(help="constant or cosine (in steps, to a tenth).")]
WeightDecay = Annotated[float, typer.Option(help="On weights of matrix products alone.")]
Beta2 = Annotated[float, typer.Option(help="AdamW's second decay rate.")]
Clip = Annotated[float, typer.Option(help="Largest gradient norm; 0 for none.")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or float32.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Accumulate = Annotated[int, typer.Option(help="Parts that a batch is read in, one after the other, to save memory.")]
Recompute = Annotated[
    bool, typer.Option("--recompute", help="Compute activations anew in the backward pass, to save memory.")
]
UntilSolved = Annotated[
    bool, typer.Option("--until-solved", help="Stop early once 0.97 of watched examples are exact.")
]


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
