"""What this package keeps apart from the program around it, and what a command changes in its own process."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

# glibc's mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4

_lock = threading.Lock()
_before: list[tuple[Any, str]] = []
"""The settings that the first found, once for each that is within ``fresh_torch_state``, in whichever thread: they are
the whole process's, and are put back when the last one leaves."""


@contextmanager
def fresh_torch_state() -> Iterator[None]:
    """Within it new tensors are float32 and on the CPU, gradients are on, and autocast and reduced precision are off;
    afterwards all is as before. The caller's settings would else decide results that a run's digest does not name."""
    import torch  # here: whoever only starts other processes does without

    with ExitStack() as held:
        with _lock:
            found = (torch.get_default_dtype(), torch.get_float32_matmul_precision())
            _before.append(_before[0] if _before else found)
            held.callback(_leave)
            torch.set_default_dtype(torch.float32)
            torch.set_float32_matmul_precision("highest")
        held.enter_context(torch.inference_mode(False))
        held.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # it slows every call down a little
            held.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                held.enter_context(torch.autocast(device, enabled=False))
        yield


def _leave() -> None:
    import torch

    with _lock:
        dtype, precision = _before.pop()
        if not _before:
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(precision)


@cache
def keep_large_blocks() -> bool:
    """Tells glibc's allocator to keep freed large blocks; True where it could be told.

    By default every block over 32 MB is mapped and unmapped anew, and the kernel zeroes its pages at each first touch.
    That makes a float32 training step 1.2 times as long, and a bfloat16 one, whose blocks are half as large, between
    no longer and a fifth longer (docs/performance.md). The process then holds on to its peak memory. Does nothing where
    the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
