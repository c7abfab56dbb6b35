"""Mirrors of runs in other people's tools. A run's own files stay the record; a mirror only repeats them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from foresee.core import files
from foresee.core.checkpoint_files import first_line
from foresee.core.errors import ForeseeError, RequestError, require_package
from foresee.core.registry import nearest
from foresee.metrics.base import Rows
from foresee.training.progress import Progress, on_standard_error
from foresee.training.records import Report, Timing, read_reports
from foresee.training.run import Run, load
from foresee.training.settings import Settings


class TensorBoard:
    """Event files in ``runs/<digest>/tensorboard``: ``tensorboard --logdir runs`` shows every run under its digest."""

    def __init__(self, directory: Path, spec: Settings) -> None:
        """Events that an earlier process wrote are marked as void, since they are written again."""
        from torch.utils.tensorboard import SummaryWriter

        self._spec = spec
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=1)
        self._writer.add_text("spec", "\n\n".join(f"{key}: {value}" for key, value in spec.model_dump().items()))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One scalar a number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, numbers: Mapping[str, float], verdict: str) -> None:
        """The final measurements beside the run's options, in TensorBoard's own table of runs."""
        options = self._spec.model_dump() | {"verdict": verdict}
        self._writer.add_hparams(options, dict(numbers), run_name=".")

    def close(self) -> None:
        """Writes what is buffered."""
        self._writer.close()


class WeightsAndBiases:
    """One W&B run a run, of the same name, in project ``foresee`` unless ``WANDB_PROJECT`` says another; with
    ``WANDB_MODE=offline`` it stays in the run's folder until ``wandb sync``."""

    def __init__(self, directory: Path, spec: Settings) -> None:
        """A continued run continues its W&B run; W&B itself drops steps that it already holds."""
        import wandb

        try:
            self._run = wandb.init(
                project=None if "WANDB_PROJECT" in os.environ else "foresee",
                id=spec.digest,
                name=spec.digest,
                dir=directory,
                config=spec.model_dump(),
                resume="allow",
                reinit="create_new",  # runs of a sweep have theirs open beside each other
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise RequestError(
                f"--track wandb: {first_line(error)}; log in with `wandb login`, or set WANDB_MODE=offline"
            ) from None

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One row of the run's history."""
        self._run.log(dict(numbers), step=step)

    def finish(self, numbers: Mapping[str, float], verdict: str) -> None:
        """The final measurements as the run's summary."""
        self._run.summary.update({**numbers, "verdict": verdict})

    def close(self) -> None:
        """Waits until all is written."""
        self._run.finish()


TRACKERS: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard, "wandb": WeightsAndBiases,
}  # fmt: skip
"""By name, which is also that of the library. Each is open from its construction (run directory, settings) to
``close``, which may come without ``finish`` where a run is interrupted."""


class Mirrored(Progress):
    """Shows runs as ``shown`` does, and keeps a mirror of each, wherever it is trained.

    A run that was finished before is mirrored from its files where it has no mirror yet, so that a mirror holds all of
    a comparison whichever of its runs were already there.
    """

    def __init__(self, shown: Progress, kind: str, root: Path) -> None:
        """``kind`` is tensorboard or wandb; ``root`` the folder that holds the runs. Raises ``RequestError`` on another
        kind, or where its library is not installed."""
        self._shown, self._root, self._kind = shown, root, kind
        if kind not in TRACKERS:
            raise RequestError(f"unknown tracker {kind!r}: {nearest(str(kind), list(TRACKERS))}")
        require_package(kind, "tracking", f"--track {kind}")
        self._open: dict[str, TensorBoard | WeightsAndBiases] = {}
        self.plan, self.step, self.say, self.note = shown.plan, shown.step, shown.say, shown.note  # type: ignore[method-assign]  # not mirrored

    def start(self, settings: Settings, step: int) -> None:
        """Mirrors anew what a continued run's folder holds: whoever began it may have been killed before it had."""
        self._shown.start(settings, step)
        if settings.digest not in self._open:
            written = read_reports(self._root / settings.digest)
            self._mirror(settings, [pair for pair in written if pair[0]["step"] <= step])

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        self._shown.report(settings, line, timing)
        self._open[settings.digest].log(line["step"], _line_numbers(line, timing))

    def end(self, settings: Settings, failure: ForeseeError | None) -> None:
        self._shown.end(settings, failure)
        if failure is None:
            self._finish(load(self._root / settings.digest))

    def done(self, run: Run) -> None:
        self._shown.done(run)
        self._finish(run)

    def close(self) -> None:
        """Closes the mirrors of runs that tell no more for now; what they hold stays."""
        self._shown.close()
        for mirror in self._open.values():
            mirror.close()
        self._open.clear()

    def _mirror(self, settings: Settings, written: Iterable[tuple[Report, Timing]]) -> None:
        """Opens a run's mirror, with what was written of it."""
        mirror = self._open[settings.digest] = TRACKERS[self._kind](self._root / settings.digest, settings)
        for line, timing in written:
            mirror.log(line["step"], _line_numbers(line, timing))

    def _finish(self, run: Run) -> None:
        """Mirrors the final measurements, or all of a run that was finished before."""
        marker = run.dir / f"{self._kind}.mirrored"
        if run.spec.digest not in self._open:
            if marker.exists():
                return
            self._mirror(run.spec, zip(run.metrics, run.timing, strict=True))
        mirror = self._open.pop(run.spec.digest)
        mirror.finish(dict(_row_numbers(run.rows)), run.verdict.name)
        mirror.close()
        files.write_text(marker, "")


def show_progress(shown: bool | Progress = True, track: str | None = None, root: Path = Path("runs")) -> Progress:
    """``shown``, or what suits who looks, or nothing; mirrored where ``track`` names a tool."""
    if not isinstance(shown, Progress):
        shown = on_standard_error() if shown else Progress()
    return shown if track is None else Mirrored(shown, track, root)


def _line_numbers(line: Report, timing: Timing) -> dict[str, float]:
    """The numbers of one evaluation, by names that group well in a tool: ``train/...``, ``eval/...``, ``speed/...``."""
    found = {"train/loss": line["loss"], "train/lr": line["lr"], "train/examples": line["examples"]}
    found |= {f"train/parts/{name}": value for name, value in line["parts"].items()}
    for name, value in line["eval"].items():
        if isinstance(value, list):
            found |= {f"eval/{name}/{place}": one for place, one in enumerate(value)}
        else:
            found[f"eval/{name}"] = value
    found |= {f"speed/{name}": timing[name] for name in ("seconds", "examples_per_second")}
    return {name: float(value) for name, value in found.items()}


def _row_numbers(rows: Rows) -> Iterator[tuple[str, float]]:
    """The final measurements as ``final/NAME`` or, by answer position, ``final/NAME/i``."""
    for name, row in rows.items():
        if isinstance(row, list):
            yield from ((f"final/{name}/{place}", float(one["value"])) for place, one in enumerate(row))
        else:
            yield f"final/{name}", float(row["value"])
