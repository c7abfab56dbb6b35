"""Waiting for other processes, and what is said where one of them fails or is gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from foresee.core.errors import ForeseeError

LONGEST_NAP = 0.02  # seconds between two looks at whether the others have answered


class OtherProcessError(ForeseeError):
    """Another process of this run failed, and it is for that one, or for the first, to say so."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


class LostProcessError(OtherProcessError):
    """Another process of this run is gone."""


def wait(work: Any) -> None:
    """Until the others have done their part. Raises ``LostProcessError`` where one is gone."""
    nap = LONGEST_NAP / 256
    with losses_explained():
        while not work.is_completed():
            time.sleep(nap)  # not work.wait(), which no signal interrupts
            nap = min(2 * nap, LONGEST_NAP)
        work.wait()


@contextmanager
def losses_explained() -> Iterator[None]:
    """Turns what PyTorch raises where a process is gone into ``LostProcessError``."""
    try:
        yield
    except dist.DistError as error:
        raise _lost() from error
    except RuntimeError as error:
        # gloo says it in plain RuntimeErrors, from its network layer.
        if "gloo" in str(error).lower():
            raise _lost() from error
        raise


def _lost() -> LostProcessError:
    return LostProcessError(
        "another process of this run ended or no longer answers, so all of them end; what it said itself tells why, "
        "and the same command continues"
    )
