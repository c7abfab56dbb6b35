"""The command line on a file system without locks: ``flock`` fails with the error number ``$ERR``, 37 unless given.

37 is what NFS without its lock daemon says, 38 Lustre mounted without ``-o flock``, 95 a file system of FUSE's.
"""

from __future__ import annotations

import fcntl
import os
import sys

from foresee.cli import main


def flock(*_: object) -> None:
    """Locks nothing."""
    number = int(os.environ.get("ERR", "37"))
    raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    fcntl.flock = flock
    sys.argv[0] = "foresee"
    main()
