"""Which runs of a study are finished already, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from foresee.core.errors import RequestError
from foresee.training.run import read_spec
from foresee.training.settings import Settings


@dataclass(frozen=True)
class Finished:
    """Directories of finished runs by digest, and by digest of the spec whatever machine it was made for.

    A run counts as another machine's when nothing but device and precision differ: which of these a spec has is the
    machine's choice, and committed rows must count on any.
    """

    exact: dict[str, Path]
    elsewhere: dict[str, Path]
    unreadable: tuple[str, ...]
    """What was wrong with folders that could not be read."""

    def find(self, spec: Settings) -> Path | None:
        """The directory of this run, or of the same run made on another kind of machine."""
        return self.exact.get(spec.digest) or self.elsewhere.get(whatever_machine(spec))


def whatever_machine(spec: Settings) -> str:
    """A digest that leaves out what the machine decides."""
    return spec.replace(device="cpu", precision="bf16").digest


def finished_runs(runs: Path, results: Iterable[Path]) -> Finished:
    """Looks through ``runs`` (a folder of run directories) and ``results`` (folders that hold such folders)."""
    directories = [path.parent for path in sorted(runs.glob("*/rows.jsonl"))]
    for folder in results:
        directories += [path.parent for path in sorted(folder.rglob("rows.jsonl"))]
    exact: dict[str, Path] = {}
    elsewhere: dict[str, Path] = {}
    unreadable: list[str] = []
    for directory in directories:
        try:
            spec = read_spec(directory)
        except RequestError as error:
            unreadable.append(str(error))
            continue
        exact.setdefault(spec.digest, directory)
        elsewhere.setdefault(whatever_machine(spec), directory)
    return Finished(exact, elsewhere, tuple(unreadable))
