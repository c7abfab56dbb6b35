"""Lines of a text file, compressed or not, one at a time."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from foresee.core.errors import RequestError

LONGEST_LINE = 1 << 26
"""Bytes of a line above which it is taken for a file without line ends: a guard for memory."""

WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file with their ends, a byte order mark left out. A name that ends in .gz is decompressed.

    Raises ``RequestError`` where the file cannot be read, is cut off or is UTF-16, and on a line of 64 MB or more.
    """
    at = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                at += 1
                if at == 1:
                    if line.startswith(WIDE_MARKS):
                        raise RequestError(f"{path}: the file is UTF-16 or UTF-32 text; save it as UTF-8")
                    line = line.removeprefix(codecs.BOM_UTF8)
                if len(line) == LONGEST_LINE:
                    raise RequestError(f"{path}, line {at}: the line is longer than 64 MB; are its line ends missing?")
                yield line
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RequestError(f"{path}: the compressed file is damaged after line {at}: {error}") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror or error}") from None
