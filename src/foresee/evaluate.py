"""Measuring a finished run again, on its own test examples or on a file."""

from __future__ import annotations

from pathlib import Path

from foresee.data import draw, read_examples
from foresee.diagnostics.base import Rows, Subject
from foresee.diagnostics.run_all import measure_all
from foresee.errors import RequestError
from foresee.run import Run
from foresee.seeds import torch_stream
from foresee.train import WATCHED, autocast


def evaluate(run: Run, data: Path | None = None) -> Rows:
    """Every measurement that needs no training examples, on the run's test examples or on those of ``data``.

    Raises ``RequestError`` where the file cannot be read or its examples differ in length.
    """
    if data is None:
        test = draw(run.task, run.spec.task, "test", WATCHED + run.spec.test, 0).rows(slice(WATCHED, None))
    else:
        test = read_examples(data, run.task)
        if not test.layout.uniform:
            raise RequestError(f"{data}: prompts or answers differ in length, which {run.spec.task} does not have")
    objective = run.objective.to(run.spec.device)
    rng = torch_stream("diagnostics", run.spec.digest)
    with autocast(run.spec):
        return measure_all(Subject(run.task, objective, test.to(run.spec.device), None, rng))
