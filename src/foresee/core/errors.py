"""The two ways in which a command ends badly, and the warning of what goes on all the same.

The command line prints each as one sentence, and exits with ``status``; anything else that escapes is a defect.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any


class ForeseeError(Exception):
    """The work failed, though what was asked for was right (exit status 1)."""

    status = 1


class RequestError(ForeseeError, ValueError):
    """What was asked for is wrong (exit status 2): the message says what, where, and what would be right."""

    status = 2


class InUseError(RequestError):
    """Another process has a run's folder."""


class ForeseeWarning(UserWarning):
    """What was asked for is done, but not as may have been thought."""


SHOW_OTHERS = warnings.showwarning


def show_warning(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
    """Says a warning of this package as one sentence; others as Python does."""
    if issubclass(category, ForeseeWarning):
        print(f"foresee: warning: {message}", file=sys.stderr)
    else:
        SHOW_OTHERS(message, category, *place, **more)


class OtherProcessError(ForeseeError):
    """Another process of the same run failed or is gone; that one or the main one says why."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


def require_package(name: str, extra: str, what: object) -> None:
    """Raises ``RequestError`` where a package is not installed: ``what`` needs it, and the extra that brings it."""
    if find_spec(name) is None:
        raise RequestError(
            f"{what} needs the package {name}, which is not installed; pip install 'foresee-lm[{extra}]' adds it"
        )


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turns what PyTorch raises where a process of the same run is gone into ``OtherProcessError``."""
    try:
        yield
    except RuntimeError as error:
        from torch.distributed import DistError

        # gloo says it in plain RuntimeErrors, from its network layer.
        if isinstance(error, DistError) or "gloo" in str(error).lower():
            said = "what it said itself tells why, and the same command continues"
            raise OtherProcessError(
                f"another process of this run ended or no longer answers, so all of them end; {said}"
            ) from error
        raise
