"""The options of commands that train many runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class EngineName(StrEnum):
    """What trains the runs."""

    local = "local"
    ray = "ray"


Engine = Annotated[EngineName, typer.Option(help="local: beside each other on this machine; ray: on a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option(help="A running Ray cluster, as in 10.0.0.1:6379; started here by default.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="The most runs at a time; by cores and memory by default.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of each run; by its size by default.")]
