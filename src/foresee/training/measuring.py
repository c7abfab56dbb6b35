"""The final measurement of a run, on examples that no evaluation during training looked at."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from foresee.core import files
from foresee.core.batch import NOTHING, Batch
from foresee.core.seeds import torch_stream
from foresee.metrics.anatomy import anatomy
from foresee.metrics.base import Rows, Subject
from foresee.metrics.measure import measure_all
from foresee.metrics.passes import predict_answers
from foresee.objectives.base import Objective
from foresee.tasks.base import Task
from foresee.training.data import TrainingData
from foresee.training.examples import first_trained, problems_trained
from foresee.training.run import rows_as_lines
from foresee.training.settings import Settings
from foresee.training.step import autocast

SHOWN_EXAMPLES = 24
DISSECTED = 3
"""Of those, how many have their probabilities and attention kept."""


@dataclass(frozen=True)
class Measured:
    """What a run's files say of its trained model."""

    rows: Rows
    examples: list[dict[str, Any]]
    anatomies: list[dict[str, Any]]

    def save(self, directory: Path) -> None:
        """Writes it into a run's folder, the rows last: a run that has them is finished."""
        files.write_json_lines(directory / "examples.jsonl", self.examples)
        files.write_json(directory / "anatomy.json", {"examples": self.anatomies})
        files.write_json_lines(directory / "rows.jsonl", rows_as_lines(self.rows))


def measured(
    spec: Settings, task: Task, objective: Objective, data: TrainingData, test: Batch, steps: int
) -> Measured:  # fmt: skip
    """Every measurement of an objective that was trained for ``steps`` steps."""
    subject = Subject(
        task=task,
        objective=objective.eval(),
        test=test.to(spec.device),
        train=first_trained(data, spec, steps, len(test)).to(spec.device),
        rng=torch_stream("diagnostics", spec.digest),
        trained=lambda: problems_trained(task, data, spec, steps),
    )
    with autocast(spec):
        rows = measure_all(subject)
        shown = test.rows(slice(0, SHOWN_EXAMPLES))
        written = predict_answers(objective, shown.to(spec.device), SHOWN_EXAMPLES, task).tolist()
        dissected = [
            anatomy(task, objective, prompt, answer, [token for token in wrote if token != NOTHING])
            for (prompt, answer), wrote in islice(zip(shown.pairs(), written, strict=True), DISSECTED)
        ]
    examples = [
        {
            "prompt": task.write_line(prompt, []),
            "answer": task.write_answer(answer),
            "wrote": task.write_answer([token for token in wrote if token != NOTHING]),
        }
        for (prompt, answer), wrote in zip(shown.pairs(), written, strict=True)
    ]
    anatomies = [example | anatomised for example, anatomised in zip(examples, dissected, strict=False)]
    return Measured(rows, examples, anatomies)
