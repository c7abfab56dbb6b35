"""``python -m foresee.objectives_page``, in the root of the repository, writes the page and its drawings."""

from __future__ import annotations

import sys
from pathlib import Path

from foresee.core.errors import ForeseeError, RequestError
from foresee.report.objectives_page.page import pages
from foresee.report.style import write_bytes


def main(root: Path) -> None:
    """Writes every generated file below ``root``, and takes away drawings of objectives that are gone."""
    if not (root / "docs").is_dir():
        raise RequestError(f"{root} has no folder docs; run this in the root of the repository")
    made = pages(root)
    for path, text in made.items():
        write_bytes(path, text.encode())
    for path in sorted((root / "docs" / "objectives").glob("*.svg")):
        if path not in made:
            path.unlink()
    sys.stderr.write(f"wrote {len(made)} files under {root / 'docs'}\n")


if __name__ == "__main__":
    try:
        main(Path())
    except ForeseeError as error:
        sys.stderr.write(f"foresee: {error}\n")
        sys.exit(error.status)
