"""A mirror that TensorBoard reads: ``tensorboard --logdir runs`` shows every run under its digest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from foresee.training.settings import Settings
from foresee.training.tracking import Tracker

FOLDER = "tensorboard"


class TensorBoard(Tracker):
    """Event files in ``runs/<digest>/tensorboard``."""

    def __init__(self, directory: Path, spec: Settings, step: int) -> None:
        """Events after ``step`` that an earlier process wrote before it was killed are marked as void, since the run
        repeats those steps."""
        self._spec = spec
        self._writer = SummaryWriter(str(directory / FOLDER), purge_step=step + 1)
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
