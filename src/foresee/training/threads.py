"""The number of threads of a run, which stays what it was when the run began.

Sums that several threads make are added up in another order than those of one, and differ in their last bits: a run
gives the same bytes on the same number of threads. So ``env.json`` holds the number, and whoever continues the run
keeps to it, on however many cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch

from foresee.core import files


def threads_of(directory: Path) -> AbstractContextManager[None]:
    """Within it, PyTorch computes with as many threads as the run in ``directory`` began with; afterwards with as many
    as before. Raises ``RequestError`` where ``env.json`` is damaged; where it is missing, the number stays."""
    return computing_with(began_with(directory))


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """Within it, PyTorch computes with that many threads, or with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def began_with(directory: Path) -> int | None:
    """The threads that a run began with, or None where it has not begun. Raises ``RequestError`` where ``env.json`` is
    damaged."""
    path = directory / "env.json"
    if not path.exists():
        return None
    recorded = files.read_json(path)
    threads = recorded.get("threads") if isinstance(recorded, dict) else None
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise files.damaged(path, "it does not say how many threads the run has")
    return threads
