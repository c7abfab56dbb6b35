"""What tasks say follows from a decision, and the matched edits, each against the tasks' own solvers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from scripted import Follower, GoalCopier, Planner, examples, subject
from torch import Tensor

from foresee.core import seeds
from foresee.core.batch import NOTHING
from foresee.core.plugins import load_plugin_file
from foresee.core.spec import resolve
from foresee.metrics.base import Subject
from foresee.metrics.decision import ByDistance, LureProbe
from foresee.metrics.measure import evaluation_mode
from foresee.metrics.passes import Scores
from foresee.tasks import Task, tasks
from foresee.tasks.minimal_planning import MinimalPlanning
from foresee.tasks.path_star import PathStar

load_plugin_file(Path(__file__).resolve().parent.parent / "examples" / "running_parity.py")


def built(spec: str) -> Task:
    return resolve(tasks, spec).build()


BRANCH = "path-star-branch:degree=2,length=4,nodes=20,goals=one"
DECIDED = [
    "path-star:degree=5,length=5,nodes=50,goals=one",
    "path-star:degree=3,length=4,nodes=20,goals=all",
    "path-star:degree=2,length=6,nodes=40,goals=one,sizes=mixed,query=first",
    "path-star:degree=3,length=5,nodes=40,goals=one,generalised=path",
    "path-star:degree=2,length=4,nodes=20,goals=one,seed_length=3",
    "in-weights-path-star:degree=20,length=5",
    "minimal-planning:steps=4,nodes=20",
    "running-parity:bits=8",
]


@pytest.mark.parametrize("spec", DECIDED)
def test_the_right_decision_implies_the_answer_and_a_wrong_one_another(spec: str) -> None:
    task: Any = built(spec)
    batch = task.sample(200, seeds.stream("probes", spec))
    answers, branch = batch.padded_answers(), batch.facts["branch"]
    decided = (branch >= 0).nonzero().flatten()
    right = answers.gather(1, branch.clamp(min=0)[:, None])[:, 0]
    assert torch.equal(task.implied(batch, right)[decided], answers[decided])
    assert (task.implied(batch, torch.full_like(right, len(task.vocab) - 1)) == NOTHING).all()
    turn = task.wrong_turn(batch, seeds.torch_stream("probes", spec))
    assert torch.equal(turn.rows, decided)
    wrong = turn.answers[torch.arange(len(turn.rows)), turn.place]
    assert (wrong != right[turn.rows]).all()
    before = torch.arange(answers.shape[1]) < turn.place[:, None]
    assert torch.equal(turn.answers[before], answers[turn.rows][before])
    assert torch.equal(task.implied(batch, right.index_put((turn.rows,), wrong))[turn.rows], turn.answers)


def test_tasks_where_nothing_follows_from_a_decision_say_so() -> None:
    for spec in ("copying", "sorting", "noisy-chain", "addition", "countdown", BRANCH):
        task = built(spec)
        batch = task.sample(4, seeds.stream("probes", spec))
        assert task.wrong_turn(batch, seeds.torch_stream("probes", spec)) is None


@pytest.mark.parametrize(("degree", "length"), [(3, 3), (3, 4), (5, 5), (20, 5)])
@pytest.mark.parametrize("query", ["last", "first"])
def test_edits_change_two_tokens_and_the_answer_or_nothing(degree: int, length: int, query: str) -> None:
    task = PathStar(degree=degree, length=length, nodes=120, query=query, goals="one")  # type: ignore[arg-type]  # both are choices
    batch = examples(task, 300)
    lure = task.lure(batch, seeds.torch_stream("lure"))
    assert lure is not None
    for edited in (lure.critical, lure.safe):
        assert ((edited.prompts != batch.prompts).sum(1) == 2).all()
        for prompt, answer in list(edited.pairs())[:50]:
            task.check_prompt(prompt)
            assert task.solve(prompt) == answer
    assert (lure.critical.answers[:, 1] != batch.answers[:, 1]).all()
    assert torch.equal(lure.safe.answers, batch.answers)
    two = PathStar(degree=2, length=length, nodes=120, goals="one")
    assert two.lure(examples(two, 4), seeds.torch_stream("lure")) is None


def test_a_planner_heeds_the_edit_that_matters_and_a_follower_does_not() -> None:
    task, found = PathStar(degree=5, length=5, nodes=50, goals="one"), []
    for objective in (Planner(task), Follower(task, rate=0.75), Follower(task), GoalCopier(task)):
        with evaluation_mode(objective):
            found.append(cast(Any, LureProbe().measure(subject(objective, 1000)))["heeds"]["value"])
    assert found[0] == 1.0
    assert 0.2 < found[1] < 0.6
    assert max(found[2:]) < 0.1


# Rates by planning distance: each row counts its own distance, and rows without a decision are left out


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
    assert measured(None, branch=BATCH.facts["branch"]) == {}  # where a task has no distances


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
