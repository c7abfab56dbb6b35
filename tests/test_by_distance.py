"""Rates by planning distance: each row counts its own distance, and rows without a decision are left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from foresee.core import seeds
from foresee.metrics.base import Subject
from foresee.metrics.decision import ByDistance
from foresee.metrics.passes import Scores
from foresee.tasks.minimal_planning import MinimalPlanning

TASK = MinimalPlanning(steps=3, nodes=9)
BATCH = TASK.sample(90, seeds.stream("by distance"))
DISTANCE = BATCH.facts["distance"]


@dataclass
class Measured:
    """What the diagnostic reads of a subject."""

    test: Any
    predictions: Tensor
    scores: Scores | None
    task: Any = TASK
    problems: Tensor = field(default_factory=lambda: torch.arange(90))

    @property
    def decided(self) -> Tensor:
        """As ``Subject.decided``."""
        return cast(Tensor, (self.test.facts["branch"] >= 0).nonzero().flatten())


def measured(scores: Scores | None, **facts: Tensor) -> dict[str, Any]:
    predictions = BATCH.answers.clone()
    predictions[DISTANCE == 2, -1] = predictions[DISTANCE == 2, 0]  # wrong at distance 2, and nowhere else
    test = BATCH.rows(slice(None))
    object.__setattr__(test, "facts", facts)
    return ByDistance().measure(cast(Subject, Measured(test, predictions, scores)))


def test_each_distance_has_a_rate_of_its_own() -> None:
    rows = measured(None, distance=DISTANCE)
    assert [row["distance"] for row in rows["exact_by_distance"]] == [1, 2, 3]
    assert [row["value"] for row in rows["exact_by_distance"]] == [1.0, 0.0, 1.0]
    assert sum(row["n"] for row in rows["exact_by_distance"]) == 90
    assert rows.keys() == {"exact_by_distance"}


@pytest.mark.parametrize("decided", [True, False])
def test_the_decision_is_counted_where_there_is_one(decided: bool) -> None:
    right = torch.zeros_like(BATCH.answers, dtype=torch.bool)
    right[torch.arange(90), BATCH.facts["branch"]] = DISTANCE == 3
    scores = Scores(right, torch.zeros(right.shape), torch.zeros(right.shape), torch.ones_like(right))
    branch = BATCH.facts["branch"].clone()
    if not decided:
        branch[DISTANCE == 1] = -1
    rows = measured(scores, distance=DISTANCE, branch=branch)["branch_by_distance"]
    found = {row["distance"]: row["value"] for row in rows}
    assert found == ({1: 0.0} if decided else {}) | {2: 0.0, 3: 1.0}


def test_tasks_without_distances_have_no_such_rows() -> None:
    assert measured(None, branch=BATCH.facts["branch"]) == {}
