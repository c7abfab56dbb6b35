"""Writes the API reference into build/reference: what ``import foresee`` offers, and what plug-ins build on."""

from pathlib import Path

import pdoc

import foresee

MODULES = (
    "foresee",
    "foresee.training.settings", "foresee.training.run",
    "foresee.core.batch", "foresee.core.vocabulary", "foresee.core.seeds", "foresee.core.errors",
    "foresee.tasks.base", "foresee.tasks.text", "foresee.backbones.base", "foresee.objectives.base",
    "foresee.objectives.teacher_forcing", "foresee.metrics.base", "foresee.metrics.intervals",
    "foresee.metrics.survival", "foresee.metrics.significance", "foresee.experiments.runner",
    "foresee.experiments.studies.base", "foresee.report.charts", "foresee.report.frames",
)  # fmt: skip


def write_reference() -> None:
    """Writes the pages."""
    # pdoc looks only at names that are there, and these are imported once they are asked for.
    vars(foresee).update({name: getattr(foresee, name) for name in foresee.__all__})
    folder = Path("build/reference")
    # Each opens with its loss, its decoding and where it differs from its source.
    each = sorted(f"foresee.objectives.{path.stem}" for path in Path("src/foresee/objectives").glob("[a-z]*.py"))
    pdoc.pdoc(*dict.fromkeys([*MODULES, *each]), output_directory=folder)
    print(folder / "index.html")
