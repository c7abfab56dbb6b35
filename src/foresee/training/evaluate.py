"""Measuring a finished run again, on its own test examples or on a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from foresee.core.seeds import torch_stream
from foresee.metrics.base import Rows, Subject
from foresee.metrics.measure import measure_all
from foresee.training.data import read_examples
from foresee.training.examples import problems_trained, test_examples, training_data, watched_and_measured
from foresee.training.run import Run
from foresee.training.step import autocast


def evaluate(run: Run, data: Path | None = None) -> Rows:
    """Every measurement, on the run's test examples or on those of ``data``. Rows about training examples are the run's
    own: they do not depend on what it is tested on.

    Raises ``RequestError`` where the file cannot be read or a line is no example of the run's task.
    """
    trained = None
    if data is None:
        drawn = training_data(run.spec, run.task)
        _, test = watched_and_measured(test_examples(run.spec, run.task, drawn), run.spec)
        trained = partial(problems_trained, run.task, drawn, run.spec, run.steps)
    else:
        test = read_examples(data, run.task)
    # A run that was trained on a GPU can be measured where there is none.
    spec = run.spec if torch.cuda.is_available() else run.spec.replace(device="cpu")
    rng = torch_stream("diagnostics", run.spec.digest)
    with autocast(spec):
        subject = Subject(
            run.task, run.objective.to(spec.device), test.to(spec.device), train=None, rng=rng, trained=trained
        )
        return measure_all(subject)
