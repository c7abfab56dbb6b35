"""A mirror in Weights & Biases; with ``WANDB_MODE=offline`` it stays in the run's folder until ``wandb sync``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import wandb

from foresee.core.checkpoint_files import first_line
from foresee.core.errors import RequestError
from foresee.training.settings import Settings
from foresee.training.tracking import Tracker


class WeightsAndBiases(Tracker):
    """One W&B run a run, of the same name, in project ``foresee`` unless ``WANDB_PROJECT`` says another."""

    def __init__(self, directory: Path, spec: Settings, step: int) -> None:
        """A continued run continues its W&B run; W&B itself drops steps that it already holds."""
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
