"""Measuring a finished run again, on its own test examples or on a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from foresee.data import read_examples
from foresee.diagnostics.base import Rows, Subject
from foresee.diagnostics.run_all import measure_all
from foresee.errors import RequestError
from foresee.examples import WATCHED, test_examples, training_data
from foresee.run import Run
from foresee.seeds import torch_stream
from foresee.step import autocast


def evaluate(run: Run, data: Path | None = None) -> Rows:
    """Every measurement, on the run's test examples or on those of ``data``. Rows about training examples are the run's
    own: they do not depend on what it is tested on.

    Raises ``RequestError`` where the file cannot be read or its examples differ in length.
    """
    if data is None:
        test = test_examples(run.spec, run.task, training_data(run.spec, run.task)).rows(slice(WATCHED, None))
    else:
        test = read_examples(data, run.task)
        if not test.layout.uniform:
            raise RequestError(f"{data}: prompts or answers differ in length, which {run.spec.task} does not have")
    # A run that was trained on a GPU can be measured where there is none.
    spec = run.spec if torch.cuda.is_available() else replace(run.spec, device="cpu")
    rng = torch_stream("diagnostics", run.spec.digest)
    with autocast(spec):
        return measure_all(Subject(run.task, run.objective.to(spec.device), test.to(spec.device), None, rng))
