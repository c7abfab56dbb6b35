"""Arrays on disk: written piece by piece without knowing their length, read by memory map or block by block."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy
from numpy.lib import format as npy
from numpy.typing import NDArray

Array = NDArray[Any]


def smallest_type(largest: int) -> numpy.dtype[Any]:
    """The narrowest little-endian unsigned type that holds 0 .. ``largest``."""
    for width in (1, 2, 4):
        if largest < 1 << 8 * width:
            return numpy.dtype(f"<u{width}")
    return numpy.dtype("<u8")


class ArrayWriter:
    """A one-dimensional ``.npy`` file that grows. A context manager; ``len`` is how many values it holds so far."""

    def __init__(self, path: Path, dtype: numpy.dtype[Any]) -> None:
        self._dtype, self._length = dtype, 0
        self._file = path.open("wb")
        self._header(0)
        self._starts = self._file.tell()

    def _header(self, length: int) -> None:
        # NumPy leaves room in a header for the first dimension to grow, so that one for any length has the same size.
        npy.write_array_header_1_0(
            self._file,
            {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (length,)},
        )

    def __len__(self) -> int:
        return self._length

    def write(self, values: Array) -> None:
        """Appends values, which must fit the type."""
        self._file.write(values.astype(self._dtype, copy=False).tobytes())
        self._length += len(values)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._file.seek(0)
                self._header(self._length)
                if self._file.tell() != self._starts:
                    raise RuntimeError("the header of an array outgrew its room")


def mapped(path: Path) -> Array:
    """A one-dimensional array whose values are read from disk as they are looked at. Raises ``ValueError`` or
    ``OSError`` where the file is missing, cut off or no such array."""
    with path.open("rb") as file:
        npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file)
        starts = file.tell()
        if len(shape) != 1 or path.stat().st_size != starts + shape[0] * dtype.itemsize:
            raise ValueError(f"{path} does not hold as many values as it says")
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Rows are read here and there, so that reading ahead would fetch what nobody asks for.
    held.madvise(mmap.MADV_RANDOM)
    return numpy.frombuffer(held, dtype, shape[0], starts)


class ArrayReader:
    """Parts of a one-dimensional ``.npy`` file, read into memory and let go: a map's pages would stay resident. A
    context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        npy.read_magic(self._file)
        (self._length,), _, self._dtype = npy.read_array_header_1_0(self._file)
        self._starts = self._file.tell()

    def __len__(self) -> int:
        return int(self._length)

    def part(self, start: int, end: int) -> Array:
        """Values ``start`` to ``end``."""
        self._file.seek(self._starts + start * self._dtype.itemsize)
        return numpy.fromfile(self._file, self._dtype, end - start)

    def __enter__(self) -> ArrayReader:
        return self

    def __exit__(self, *ended: object) -> None:
        self._file.close()
