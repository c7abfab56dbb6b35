"""foresee: where next-token training fails to look ahead, why, and which training objective repairs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foresee.core.errors import ForeseeError, RequestError

if TYPE_CHECKING:
    from foresee.api import (
        backbone,
        compare,
        diagnose,
        evaluate,
        export,
        load,
        objective,
        plot,
        plugin,
        report,
        runs,
        study,
        task,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "ForeseeError", "RequestError", "__version__", "backbone", "compare", "diagnose", "evaluate", "export", "load",
    "objective", "plot", "plugin", "report", "runs", "study", "task", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports what needs PyTorch once it is asked for: the command line's help needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'foresee' has no attribute {name!r}")
    from foresee import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
