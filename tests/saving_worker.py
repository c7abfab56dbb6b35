"""A worker of a sweep that saves at every step, so that a killed run has something to continue from."""

from __future__ import annotations

import importlib

from foresee.experiments.sweeps.worker import main

loop = importlib.import_module("foresee.training.loop")  # ``foresee.train`` is also a function

if __name__ == "__main__":
    loop.SAVE_SECONDS = -1.0  # type: ignore[attr-defined]
    main()
