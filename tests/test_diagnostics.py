"""Each measurement on scripted objectives whose every move is known."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from scripted import (
    Babbler,
    Backward,
    Broken,
    Follower,
    Graph,
    Memoriser,
    Parallel,
    Planner,
    Slipping,
    examples,
    known,
    subject,
)
from torch import Tensor

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.metrics.accuracy import right_answers
from foresee.metrics.base import Metric, Row, Rows, Subject, metrics
from foresee.metrics.measure import measure_all, measure_quickly
from foresee.metrics.passes import predict_answers, score_answers
from foresee.metrics.shortcut import Shortcut
from foresee.tasks.path_star import PathStar

TASK = PathStar(degree=2, length=5, nodes=50, goals="one")
WIDE = PathStar(degree=5, length=4, nodes=30, goals="one")


def one(rows: Rows, name: str) -> Row:
    row = rows[name]
    assert isinstance(row, dict)
    return row


def value(rows: Rows, name: str) -> float:
    return float(one(rows, name)["value"])


def values(rows: Rows, name: str) -> list[float]:
    row = rows[name]
    assert isinstance(row, list)
    return [each["value"] for each in row]


@pytest.mark.parametrize("task", [TASK, WIDE])
def test_a_follower_walks_any_arm_and_guesses_the_branch(task: PathStar) -> None:
    rows = measure_all(subject(Follower(task)))
    assert value(rows, "follow") == 1.0
    assert value(rows, "child") == 1.0
    assert one(rows, "branch")["low"] < task.chance < one(rows, "branch")["high"]
    assert value(rows, "exact") == value(rows, "branch") == values(rows, "free")[-1]
    assert values(rows, "forced") == [1.0, value(rows, "branch"), *[1.0] * (task.length - 2)]
    assert value(rows, "margin") == pytest.approx(6.0 * (2.0 * value(rows, "branch") - 1.0), abs=1e-4)
    assert "train_branch" not in rows


def test_plateau_stands_beside_its_reference() -> None:
    objective, batch = Follower(TASK), examples(TASK, 2000)
    row = one(measure_all(subject(objective)), "plateau")
    with torch.inference_mode():
        log_probs: Any = objective.eval().forced(batch)
    by_hand = torch.nn.functional.nll_loss(log_probs.flatten(0, 1).double(), batch.answers.flatten())
    assert row == {"value": pytest.approx(float(by_hand), rel=1e-6), "reference": TASK.plateau, "n": 2000}
    assert row["reference"] == pytest.approx(math.log(2) / 5)


@pytest.mark.parametrize("stray_at", [2, 3, 4])
def test_follow_counts_only_arms_walked_edge_by_edge_to_their_end(stray_at: int) -> None:
    class Strays(Follower):
        """Walks an arm, but writes the goal at one place on every third prompt, and goes on as if it had not."""

        def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
            at = prefix.shape[1]
            if at < 2:
                return super().write_next(graph, prefix)
            node = prefix[:, 1:2]
            for _ in range(at - 1):
                node = graph.child.gather(1, node)
            strays = (graph.prompt.sum(1) % 3 == 0) & (at == stray_at)
            return torch.where(strays, graph.path[:, -1], node.squeeze(1))

    rows = measure_all(subject(Strays(TASK)))
    every_third = examples(TASK, 2000).prompts.sum(1) % 3 == 0
    walked = int((~every_third).sum()) / 2000
    assert value(rows, "follow_to_end") == walked
    # The goal as the last token is a copy from the prompt, which needs no looking ahead either.
    assert value(rows, "follow") == (1.0 if stray_at == TASK.length - 1 else walked)


def test_follow_puts_the_objective_on_each_wrong_arm_equally_often() -> None:
    class Watches(Follower):
        def __init__(self, task: PathStar) -> None:
            super().__init__(task)
            self.put: list[Tensor] = []

        def generate(self, prompt: Tensor, n: int) -> Tensor:
            if prompt.shape[1] > self.task.prompt_length:
                assert prompt.shape[1] == self.task.prompt_length + 2
                assert n == self.task.length - 2
                self.put.append(prompt[:, -1])
            return super().generate(prompt, n)

    objective = Watches(WIDE)
    measure_all(subject(objective, 4000))
    facts = examples(WIDE, 4000).facts
    put = (facts["arms"][:, :, 1] == torch.cat(objective.put)[:, None]).int().argmax(1)
    assert not (put == facts["goal_arm"]).any()
    away = torch.bincount((put - facts["goal_arm"]) % 5, minlength=5).tolist()
    assert all(1000 - 4.5 * math.sqrt(4000 * 0.25 * 0.75) < count < 1000 + 4.5 * 27.4 for count in away[1:])


def test_branches_at_different_places_are_each_forced_at_their_own() -> None:
    class Watches(Follower):
        def generate(self, prompt: Tensor, n: int) -> Tensor:
            prefix_lengths.extend([prompt.shape[1] - TASK.prompt_length] * len(prompt))
            return super().generate(prompt, n)

    prefix_lengths: list[int] = []
    batch = examples(TASK, 600)
    late = replace(batch, facts={**batch.facts, "branch": torch.arange(600) % 3 + 1})
    rows = Shortcut().measure(subject(Watches(TASK).eval(), test=late))
    # Where the decision is the last token but one, nothing lies between it and the end.
    assert [(one(rows, name)["value"], one(rows, name)["n"]) for name in rows] == [(1.0, 400), (1.0, 600)]
    assert Counter(prefix_lengths) == {2: 200, 3: 200, 4: 200}


def test_child_on_a_babbler_is_the_share_counted_one_by_one() -> None:
    objective = Babbler(WIDE)
    rows = measure_all(subject(objective, 400))
    batch = examples(WIDE, 400)
    wrote = predict_answers(objective.eval(), batch, 1000)
    count = 0
    for arms, path in zip(batch.facts["arms"].tolist(), wrote.tolist(), strict=True):
        edges = {pair for arm in arms for pair in pairwise(arm)}
        count += sum(pair in edges for pair in pairwise(path))
    assert count > 0
    assert one(rows, "child")["value"] == count / 1200


def test_slips_compound_and_memory_shows_on_training_examples_alone() -> None:
    rows = measure_all(subject(Slipping(TASK, sure=0.97)))
    assert value(rows, "compounded") == pytest.approx(math.prod(values(rows, "forced")))
    assert value(rows, "exact") == pytest.approx(0.97**5, abs=0.03)
    assert sorted(values(rows, "free"), reverse=True) == values(rows, "free")
    train = examples(TASK, 500, "train")
    rows = measure_all(subject(Memoriser(TASK, known(train.prompts), walks=True), train=train))
    assert value(rows, "train_branch") == 1.0
    assert value(rows, "branch") == pytest.approx(0.5, abs=0.05)


def test_what_cannot_be_forced_has_no_forced_rows() -> None:
    """A backward objective is not put on an arm, but keeps its branch."""
    objective = Parallel(TASK)
    rows = measure_all(subject(objective, train=examples(TASK, 10, "train")))
    assert set(rows) == {"exact", "free", "child", "decision", "rest"}
    assert set(measure_quickly(TASK, objective, examples(TASK, 10))) == {"n", *rows}
    rows = measure_all(subject(Backward(TASK), train=examples(TASK, 0, "train")))
    assert not {"follow", "train_branch"} & rows.keys()
    assert value(rows, "branch") == 1.0


def test_rows_are_absent_where_they_have_no_meaning() -> None:
    """Without facts only tokens are compared; without a wrong arm, or anything to walk, nothing is followed."""
    bare = replace(examples(TASK, 50), facts={})
    rows = measure_all(subject(Planner(TASK), test=bare))
    assert set(rows) == {"exact", "free", "forced", "compounded", "plateau"}
    for degree, length in ((1, 5), (3, 2)):
        task = PathStar(degree=degree, length=length, nodes=20, goals="one")
        rows = measure_all(subject(Follower(task), 50))
        assert "follow" not in rows
        assert value(rows, "child") == 1.0


@pytest.mark.parametrize("training", [True, False])
def test_decoding_and_scoring_happen_once_and_the_objective_keeps_its_mode(training: bool) -> None:
    objective, measured = Follower(TASK).train(training), Follower(TASK).train(training)
    measure_all(subject(objective, 100, chunk=100))
    assert objective.calls == {"generate": 2, "forced": 1}  # free, and from wrong arms
    measure_quickly(TASK, measured, examples(TASK, 100))
    assert measured.calls == {"generate": 1, "forced": 1}
    assert (objective.training, measured.training) == (training, training)
    assert torch.is_grad_enabled()


def test_quick_gives_the_values_of_the_rows() -> None:
    objective = Slipping(TASK, sure=0.9)
    rows, plain = measure_all(subject(objective)), measure_quickly(TASK, objective, examples(TASK, 2000), chunk=300)
    assert list(plain) == [
        "n", "forced_loss", "exact", "branch", "margin", "decision", "rest", "forced", "free", "child",
    ]  # fmt: skip
    for name in ("exact", "branch", "margin", "decision", "rest", "child"):
        assert plain[name] == value(rows, name)
    for name in ("forced", "free"):
        assert plain[name] == values(rows, name)
    assert plain["forced_loss"] == pytest.approx(value(rows, "plateau"))
    assert plain["n"] == 2000
    json.dumps(plain, allow_nan=False)


def test_other_valid_answers_are_put_to_the_task() -> None:
    class EitherWay(PathStar):
        def verify(self, prompt: Any, answer: Any) -> bool:
            return answer[-1] in prompt[:12] and answer[0] == prompt[-3]

    task = EitherWay(degree=2, length=3, nodes=9)
    batch = task.sample(400, seeds.stream("test", "either"))
    wrote = predict_answers(Follower(task, rate=0.0).eval(), batch, 100)
    assert right_answers(task, batch, wrote).all()
    assert not right_answers(PathStar(degree=2, length=3, nodes=9, goals="one"), batch, wrote).any()
    wrote = wrote.clone()
    wrote[::2, 0] = task.nodes
    assert right_answers(task, batch, wrote).tolist() == [False, True] * 200


def test_scores_take_the_first_of_equal_logits_as_decoding_does_and_are_reduced_in_float32() -> None:
    class Undecided(Planner):
        kind = torch.float32

        def confident(self, wanted: Tensor) -> Tensor:
            return torch.zeros(*wanted.shape, len(self.vocab)).log_softmax(-1).to(self.kind)

    batch, undecided = examples(TASK, 300), Undecided(TASK).eval()
    for undecided.kind in (torch.float32, torch.bfloat16):
        found: Any = score_answers(undecided, batch, 100)
        assert torch.equal(found.right, batch.answers == 0)
        assert not found.margin.any()
        assert found.mean_loss() == pytest.approx(math.log(len(TASK.vocab)), rel=1e-2)
        assert found.loss.dtype == found.margin.dtype == torch.float32


def test_numbers_that_are_not_finite_are_left_out_and_an_empty_test_set_is_refused() -> None:
    rows = measure_all(subject(Broken(TASK), 50))
    assert not {"margin", "plateau"} & set(rows)
    assert "forced_loss" not in measure_quickly(TASK, Broken(TASK), examples(TASK, 50))
    json.dumps(rows, allow_nan=False)
    with pytest.raises(RequestError, match="test set holds no examples"):
        subject(Planner(TASK), 0)
    with pytest.raises(RequestError, match="chunk of 0 rows"):
        subject(Planner(TASK), 5, chunk=0)


@pytest.mark.usefixtures("forget_plugins")
def test_two_diagnostics_cannot_give_the_same_row() -> None:
    @metrics.register("zealous")
    class Zealous(Metric):
        summary = "gives a row that is taken"

        def measure(self, subject: Subject) -> Rows:
            return {"exact": {"value": 1.0, "n": 1}}

    with pytest.raises(RequestError, match="'accuracy' and 'zealous' both give a row 'exact'"):
        measure_all(subject(Planner(TASK), 5))
