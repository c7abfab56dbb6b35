"""Engines by the names that commands give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from foresee.core.errors import RequestError
from foresee.experiments.sweeps.engine import Engine
from foresee.experiments.sweeps.local import Local


def engine_named(
    name: Literal["local", "ray"],
    address: str | None,
    workers: int | None,
    threads: int | None,
    plugins: Sequence[Path],
) -> Engine:
    """The engine of that name; ``address`` is that of a Ray cluster, ``workers`` the most runs at a time, ``threads``
    those of each run. Raises ``RequestError`` on an address without Ray, or where Ray is not installed."""
    if name == "local":
        if address is not None:
            raise RequestError("--address is that of a Ray cluster; give --engine ray with it")
        return Local(workers=workers, threads=threads, plugins=plugins)
    from foresee.experiments.sweeps.on_ray import OnRay

    return OnRay(address=address, workers=workers, threads=threads or 1, plugins=plugins)
