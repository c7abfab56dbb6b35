"""Builds the wheel, installs it into a clean environment and uses it there.

The environment sees the distributions that the wheel declares as required, and what those require, by links into the
environment that runs this; nothing else, and not this checkout. So nothing is downloaded, and a dependency that is
used but not declared fails.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKS = """
import pathlib, sys
import foresee
assert pathlib.Path(foresee.__file__).is_relative_to(sys.prefix), foresee.__file__
assert len(foresee.task("path-star:degree=2,length=3,nodes=10").vocab) == 14
backbone = "transformer:layers=1,width=16,heads=1"
small = {"steps": 2, "batch": 8, "data": 64, "test": 16, "eval_every": 2}
run = foresee.train("copying:length=2,symbols=4", "next-token", backbone, **small)
assert foresee.load(run.dir).rows["exact"] == run.rows["exact"]
assert foresee.study("pitfalls-mamba", runs="none").runs_finished, "the committed rows came with it"
"""


def needed(lines: list[str]) -> list[str]:
    """The names in lines of requirements that hold here, without extras."""
    needs = [Requirement(line) for line in lines]
    return [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]


def closure(names: list[str]) -> set[str]:
    """These distributions and all that they require."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            waiting += needed(distribution(name).requires or [])
    return found


def link(names: set[str], folder: Path) -> None:
    """Links the files of these distributions into a folder for packages."""
    for name in sorted(names):
        one = distribution(name)
        for top in {path.parts[0] for path in one.files or [] if path.parts[0] not in ("..", "__pycache__")}:
            source, target = Path(str(one.locate_file(top))), folder / top
            if source.exists() and not target.exists():
                target.symlink_to(source)


def main() -> None:
    """Builds, installs and uses the wheel in a folder that is removed afterwards."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)

        def call(*command: str | Path) -> None:
            subprocess.run([str(word) for word in command], check=True, cwd=work)

        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        # A copy, since a build leaves files behind that the next one would take in.
        shutil.copytree(root / "src", work / "copy" / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        shutil.copytree(root / "results", work / "copy" / "results")
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(root / name, work / "copy")
        call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", work, work / "copy")
        (wheel,) = work.glob("foresee_lm-*.whl")
        call(sys.executable, "-m", "venv", "--without-pip", work / "clean")
        python = work / "clean" / "bin" / "python"
        call(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
        packages = next((work / "clean" / "lib").glob("python3*")) / "site-packages"
        (installed,) = Distribution.discover(name="foresee-lm", path=[str(packages)])
        link(closure(needed(installed.requires or [])), packages)
        call(python, "-c", CHECKS)
        for argv in (["--version"], ["list"], ["report", "-o", "report.html"]):
            call(work / "clean" / "bin" / "foresee", *argv)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, installed and used")


if __name__ == "__main__":
    main()
