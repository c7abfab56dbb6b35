"""Large blocks of memory, kept between steps."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# glibc's mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


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
