"""The options that every command which trains has in common, stated once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from foresee.cli.options import data_source


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run's settings as the command line takes them: all but its task, objective and seed."""

    backbone: Annotated[str, typer.Option(help="A preset or spec.")] = "gpt-nano"
    steps: Annotated[int, typer.Option(help="Training steps.")] = 1000
    batch: Annotated[int, typer.Option("--batch", help="Examples a step.")] = 256
    lr: Annotated[float, typer.Option("--lr", help="Learning rate after warm-up.")] = 1e-3
    data: Annotated[str, typer.Option(help="200000 (a fixed set of that size), fresh, or a file of examples.")] = (
        "200000"
    )
    test: Annotated[int, typer.Option(help="Test examples of the final measurement.")] = 20_000
    eval_every: Annotated[int, typer.Option(help="Steps between evaluations.")] = 100
    warmup: Annotated[int, typer.Option(help="Steps of linear warm-up.")] = 100
    schedule: Annotated[str, typer.Option(help="constant or cosine (in steps, to a tenth).")] = "constant"
    weight_decay: Annotated[float, typer.Option(help="On weights of matrix products alone.")] = 0.01
    beta2: Annotated[float, typer.Option(help="AdamW's second decay rate.")] = 0.999
    clip: Annotated[float, typer.Option(help="Largest gradient norm; 0 for none.")] = 1.0
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto"
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"
    until_solved: Annotated[
        bool, typer.Option("--until-solved", help="Stop early once 0.97 of watched examples are exact.")
    ] = False
    accumulate: Annotated[
        int, typer.Option(help="Parts that a batch is read in, one after the other, to save memory.")
    ] = 1
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute activations anew in the backward pass, to save memory.")
    ] = False

    def named(self) -> dict[str, Any]:
        """The keyword arguments of ``Settings.of``."""
        return asdict(self) | {"data": data_source(self.data)}


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Puts one option for each field of ``Settings`` where a command's parameter ``settings`` stands."""
    hints = get_type_hints(Settings, include_extras=True)
    own = inspect.signature(command, eval_str=True).parameters
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Settings)
    ]
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        added = options if name == "settings" else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        parameters.extend(added)

    @functools.wraps(command)
    def taking_options(**given: Any) -> None:
        settings = Settings(**{field.name: given.pop(field.name) for field in fields(Settings)})
        command(settings=settings, **given)

    # Typer reads a command's signature and its annotations.
    taking_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    taking_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return taking_options
