"""Mirrors of runs in other people's tools. A run's own files stay the record; a mirror only repeats them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from foresee.core import files
from foresee.core.checkpoint_files import first_line, require_package
from foresee.core.errors import RequestError
from foresee.core.registry import nearest
from foresee.metrics.base import Rows
from foresee.training.progress import Progress
from foresee.training.records import Report, Timing
from foresee.training.run import Run
from foresee.training.settings import Settings


class TensorBoard:
    """Event files in ``runs/<digest>/tensorboard``: ``tensorboard --logdir runs`` shows every run under its digest."""

    def __init__(self, directory: Path, spec: Settings, step: int) -> None:
        """Events after ``step`` that an earlier process wrote before it was killed are marked as void, since the run
        repeats those steps."""
        from torch.utils.tensorboard import SummaryWriter

        self._spec = spec
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)
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

    def __init__(self, directory: Path, spec: Settings, step: int) -> None:
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
"""By name, which is also that of the library. Each is open from its construction (run directory, settings, step that it
continues from) to ``close``, which may come without ``finish`` where a run is interrupted."""


class Tracked(Progress):
    """Shows progress as ``shown`` does, and mirrors every run that it is told of.

    A run that was finished before is mirrored from its files where it has no mirror yet, so that a mirror holds all of
    a comparison whichever of its runs were already there.
    """

    def __init__(self, shown: Progress, kind: str, root: Path) -> None:
        """``kind`` is tensorboard or wandb; ``root`` the folder that holds the runs. Raises ``RequestError`` on another
        kind, or where its library is not installed."""
        self._shown, self._root, self._kind = shown, root, kind
        if kind not in TRACKERS:
            raise RequestError(f"unknown tracker {kind!r}: {nearest(kind, list(TRACKERS))}")
        require_package(kind, "tracking", f"--track {kind}")
        self._make = TRACKERS[kind]
        self._open: TensorBoard | WeightsAndBiases | None = None
        self.step, self.finish, self.measuring = shown.step, shown.finish, shown.measuring  # type: ignore[method-assign]  # not mirrored

    def start(self, spec: Settings, step: int) -> None:
        """Opens the mirror; a continued run's repeats nothing that it already holds."""
        self._shown.start(spec, step)
        self.close()  # one that was interrupted before its end
        self._open = self._make(self._root / spec.digest, spec, step)

    def report(self, line: Report, timing: Timing) -> None:
        """Mirrors one line of ``metrics.jsonl`` and of ``timing.jsonl``."""
        self._shown.report(line, timing)
        if self._open is not None:
            self._open.log(line["step"], _line_numbers(line, timing))

    def done(self, run: Run) -> None:
        """Mirrors the final measurements, or all of a run that was finished before."""
        self._shown.done(run)
        marker = run.dir / f"{self._kind}.mirrored"
        if self._open is None:
            if marker.exists():
                return
            self._open = self._make(run.dir, run.spec, 0)
            for line, timing in zip(run.metrics, run.timing, strict=True):
                self._open.log(line["step"], _line_numbers(line, timing))
        self._open.finish(dict(_row_numbers(run.rows)), run.verdict.name)
        self.close()
        files.write_text(marker, "")

    def close(self) -> None:
        """Closes the mirror of a run that will tell no more for now; what it holds stays."""
        if self._open is not None:
            self._open.close()
            self._open = None


def tracked(shown: Progress, kind: str | None, root: Path) -> Progress:
    """``shown``, mirrored where ``kind`` names a tool."""
    return shown if kind is None else Tracked(shown, kind, root)


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
