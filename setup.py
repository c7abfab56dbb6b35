"""Puts the committed rows into the wheel, where ``foresee study`` looks for them; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

READ = ("spec.json", "env.json", "metrics.jsonl", "timing.jsonl", "rows.jsonl")
"""Of a run's folder: what a study reads."""


class BuildWithResults(build_py):
    """As setuptools builds, and ``results`` inside the package; an editable install finds them in the repository."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for spec in Path("results").rglob("spec.json"):
            target = Path(self.build_lib, "foresee", spec.parent)
            target.mkdir(parents=True, exist_ok=True)
            for name in READ:
                if (spec.parent / name).exists():
                    shutil.copy(spec.parent / name, target)


setup(cmdclass={"build_py": BuildWithResults})
