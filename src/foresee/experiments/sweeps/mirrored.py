"""A sweep's runs, mirrored as they go on: ``--track`` of commands that train many runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foresee.core.errors import ForeseeError
from foresee.experiments.sweeps.progress import SweepProgress
from foresee.training.progress import Silent
from foresee.training.run import Run, load
from foresee.training.settings import Settings
from foresee.training.tracking import Tracked


class Mirrored(SweepProgress):
    """Shows a sweep as ``shown`` does, and keeps a mirror of each of its runs, wherever that is trained."""

    def __init__(self, shown: SweepProgress, kind: str, root: Path) -> None:
        """``kind`` is that of ``Tracked``; ``root`` the folder that holds the runs. Raises ``RequestError`` on another
        kind, or where its library is not installed."""
        self._shown, self._kind, self._root = shown, kind, root
        self._mirrors: dict[str, Tracked] = {}
        Tracked(Silent(), kind, root)  # says at once what is wrong with ``kind``

    def plan(self, text: str, runs: int, finished: int) -> None:
        self._shown.plan(text, runs, finished)

    def began(self, spec: Settings, step: int, where: str) -> None:
        self._shown.began(spec, step, where)
        self._mirror(spec).start(spec, step)

    def step(self, spec: Settings, step: int) -> None:
        self._shown.step(spec, step)

    def report(self, spec: Settings, line: dict[str, Any], timing: dict[str, Any]) -> None:
        self._shown.report(spec, line, timing)
        self._mirror(spec).report(line, timing)

    def measuring(self, spec: Settings, examples: int) -> None:
        self._shown.measuring(spec, examples)

    def waiting(self, spec: Settings) -> None:
        self._shown.waiting(spec)

    def retrying(self, spec: Settings, why: str) -> None:
        self._shown.retrying(spec, why)

    def said(self, spec: Settings, text: str) -> None:
        self._shown.said(spec, text)

    def ended(self, spec: Settings, failure: ForeseeError | None) -> None:
        self._shown.ended(spec, failure)
        if failure is None:
            self.done(load(self._root / spec.digest))
        else:
            self._close(spec.digest)

    def done(self, run: Run) -> None:
        self._shown.done(run)
        self._mirror(run.spec).done(run)
        self._close(run.spec.digest)

    def close(self) -> None:
        self._shown.close()
        for digest in list(self._mirrors):
            self._close(digest)

    def _mirror(self, spec: Settings) -> Tracked:
        if spec.digest not in self._mirrors:
            self._mirrors[spec.digest] = Tracked(Silent(), self._kind, self._root)
        return self._mirrors[spec.digest]

    def _close(self, digest: str) -> None:
        mirror = self._mirrors.pop(digest, None)
        if mirror is not None:
            mirror.close()


def mirrored(shown: SweepProgress, kind: str | None, root: Path) -> SweepProgress:
    """``shown``, mirrored where ``kind`` names a tool."""
    return shown if kind is None else Mirrored(shown, kind, root)
