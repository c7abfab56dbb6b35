"""Run directories and studies in, one page out: ``write_report`` and, for a README, ``write_picture``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foresee.report.page import write_report

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["write_picture", "write_report"]


def write_picture(run_dirs: Sequence[Path], out: Path) -> Path:
    """``foresee.report.picture.write_picture``; matplotlib is loaded only where a picture is drawn."""
    from foresee.report.picture import write_picture as draw

    return draw(run_dirs, out)
