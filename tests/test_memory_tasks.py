"""Tasks whose answers rest on facts in the weights: in-weights path-star and retrieval."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from refusals import refused
from tiny import tiny

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.tasks import Task
from foresee.tasks.in_weights_path_star import ARMS_SHOWN, InWeightsPathStar
from foresee.tasks.retrieval import Retrieval
from foresee.training.data import draw
from foresee.training.loop import train

STAR = InWeightsPathStar(degree=8, length=4)
PAIRS = Retrieval(pairs=20, key_length=2, value_length=3)


def lines(task: Task, split: Any, n: int = 2000) -> list[str]:
    return [task.write_line(prompt, answer) for prompt, answer in draw(task, "memory", split, n, 0).pairs()]


# In-weights path-star


def test_the_graph_is_one_star_of_permuted_labels() -> None:
    arms = STAR.arms
    assert arms.shape == (8, 4)
    assert len(set(arms[:, 0].tolist())) == 1
    assert sorted({*arms.reshape(-1).tolist()}) == list(range(25))
    assert sorted(arms.reshape(-1).tolist()) != arms.reshape(-1).tolist()
    assert not numpy.array_equal(arms, InWeightsPathStar(degree=8, length=4, graph=1).arms)


def test_training_has_every_edge_both_ways_and_the_paths_to_three_ends_in_four() -> None:
    drawn = Counter(lines(STAR, "train"))
    edges = {(u, v) for arm in STAR.arms.tolist() for u, v in pairwise(arm)}
    facts = {line for line in drawn if line.startswith("edge:")}
    assert facts == {f"edge:{u}={v}" for u, v in edges} | {f"edge:{v}={u}" for u, v in edges}
    paths = {f"path:{arm[-1]}={','.join(map(str, arm))}" for arm in STAR.arms.tolist()}
    trained = drawn.keys() - facts
    assert len(trained) == 6
    assert trained < paths
    assert set(lines(STAR, "test")) == paths - trained
    rows = sum(drawn[line] for line in facts)
    assert abs(rows / 2000 - 0.5 / (0.5 + 0.5 * 6 / 8)) < 0.05


@pytest.mark.parametrize(("directions", "forward", "backward"), [("forward", 1, 0), ("backward", 0, 1), ("both", 1, 1)])
def test_edges_go_the_ways_that_are_asked_for(directions: Any, forward: int, backward: int) -> None:
    task = InWeightsPathStar(degree=3, length=3, directions=directions)
    edges = [(u, v) for arm in task.arms.tolist() for u, v in pairwise(arm)]
    drawn = {line for line in lines(task, "train") if line.startswith("edge:")}
    assert drawn == {f"edge:{u}={v}" for u, v in edges * forward} | {f"edge:{v}={u}" for u, v in edges * backward}
    for u, v in edges:
        for node, answer, right in ((u, v, forward), (v, u, backward)):
            if right:
                assert task.verify(*task.read_line(f"edge:{node}={answer}"))
            else:
                with pytest.raises(RequestError):
                    task.read_line(f"edge:{node}={answer}")


def test_prompts_hold_what_the_options_say() -> None:
    task = InWeightsPathStar(degree=3, length=3, pauses=2, query="start-goal")
    centre, second, end = task.arms[0].tolist()
    prompt, answer = task.read_line(f"path:{centre},{end}={centre},{second},{end}")
    assert task.vocab.decode(prompt) == ["path:", str(centre), str(end), "_", "_", "="]
    assert (answer, task.prompt_length) == ([centre, second, end], 6)
    with refused(f"the path is asked for from {second}, which is not the centre"):
        task.read_line(f"path:{second},{end}=")
    with refused("neither edge:u= nor path:start,goal= with its pauses"):
        task.read_line(f"path:{end}=")
    first = InWeightsPathStar(degree=3, length=3, answer="first", pauses=0)
    assert first.read_line(f"path:{end}={second}") == (first.vocab.encode(["path:", str(end), "="]), [second])
    assert (first.answer_length, first.plateau) == (1, math.log(3))
    assert set(first.sample(50, seeds.stream("first")).facts["branch"].tolist()) == {-1, 0}


def test_facts_lead_to_the_answer() -> None:
    batch = STAR.sample(300, seeds.stream("star"))
    rows = torch.arange(300)
    path = batch.facts["branch"] == 1
    ends = batch.prompt_len + batch.answer_len
    arm = batch.facts["arms"][rows, batch.facts["goal_arm"]]
    assert torch.equal(arm[path], batch.tokens[path, 4:8])
    assert (batch.facts["branch"][~path] == -1).all()
    for row in (~path).nonzero().flatten().tolist():
        assert {int(batch.tokens[row, 1]), int(batch.tokens[row, ends[row] - 1])} <= set(arm[row].tolist())
    large = InWeightsPathStar(degree=ARMS_SHOWN, length=3)
    assert set(large.sample(2, seeds.stream("star")).facts) == {"branch"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("25", "a line reads edge:u=v or path:goal=centre,...,goal"),
        ("25=1", "'25' in the prompt is out of range"),
        ("path:25=", "label '25' in the prompt is out of range"),
        ("path:CENTRE=", "CENTRE is not the end of an arm"),
        ("path:END,END=", "the prompt is neither edge:u= nor path:goal= with its pauses"),
        ("path:END=CENTRE,END", "symbol 2 of the answer is END, but a right answer has SECOND there"),
        ("edge:END=CENTRE", "symbol 1 of the answer is CENTRE, but a right answer has BEFORE there"),
    ],
)
def test_wrong_lines_about_the_star_are_refused(line: str, message: str) -> None:
    centre, second, *_, before, end = map(str, STAR.arms[0].tolist())
    for name, label in {"CENTRE": centre, "SECOND": second, "BEFORE": before, "END": end}.items():
        line, message = line.replace(name, label), message.replace(name, label)
    with refused(message):
        STAR.read_line(line)


def test_a_run_on_the_star_leaves_edges_out_of_the_branch(tmp_path: Path) -> None:
    run = train(tiny(task="in-weights-path-star:degree=8,length=4", data="fresh", test=60), tmp_path)
    rows: Any = run.rows
    assert {"exact", "branch", "train_branch", "follow", "child"} <= rows.keys()
    assert 0 < rows["train_branch"]["n"] <= 60
    # Two ends of eight are held out: one is watched, one measured.
    assert (rows["branch"]["n"], rows["branch"]["problems"]) == (1, 1)
    centre, *_, end = STAR.arms[0].tolist()
    assert len(run.generate(f"edge:{centre}=").split(",")) == 1
    assert len(run.generate(f"path:{end}=").split(",")) == 4


# Retrieval


def test_all_pairs_are_trained_one_way_and_half_of_them_both() -> None:
    trained, asked = set(lines(PAIRS, "train")), set(lines(PAIRS, "test"))
    forward = {line for line in trained if line[0] == ">"}
    backward = {line for line in trained if line[0] == "<"}
    assert (len(forward), len(backward), len(asked)) == (20, 10, 10)

    def turned(line: str) -> str:
        key, value = line[1:].split("=")
        return f"<{value}={key}"

    assert backward | asked == {turned(line) for line in forward}
    assert not backward & asked
    other = Retrieval(pairs=20, key_length=2, value_length=3, asked="forward", both_ways=0)
    assert {line[0] for line in lines(other, "test")} == {">"}
    assert len(set(lines(other, "train"))) == len(set(lines(other, "test"))) == 20


def test_keys_and_values_differ_and_share_no_symbol() -> None:
    for pairs, symbols in ((20, 10), (100, 10), (60, 10)):
        task = Retrieval(pairs=pairs, symbols=symbols, key_length=2, value_length=2)
        keys, values = task.keys, task.values
        assert keys.shape == values.shape == (pairs, 2)
        assert len(set(map(tuple, keys.tolist()))) == len(set(map(tuple, values.tolist()))) == pairs
        assert 0 <= keys.min() <= keys.max() < symbols <= values.min() <= values.max() < 2 * symbols
    assert not numpy.array_equal(PAIRS.keys, Retrieval(pairs=20, key_length=2, value_length=3, dictionary=1).keys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("k0,k1", ", symbols joined by commas"),
        ("k0,k1=v0", "the prompt asks for nothing that is in the dictionary"),
        (">KEY=FIRST", "the answer has 1 symbols, but a right answer has 3"),
        (">KEY=VALUE,v0", "the answer has 4 symbols, but a right answer has 3"),
        (">VALUE=", "the prompt asks for nothing that is in the dictionary"),
        (">k10=", "'k10' in the prompt is not a symbol of the task"),
    ],
)
def test_wrong_lines_about_the_dictionary_are_refused(line: str, message: str) -> None:
    key, value = (",".join(PAIRS.vocab.decode(words[3].tolist())) for words in (PAIRS.keys, PAIRS.values))
    with refused(message):
        PAIRS.read_line(line.replace("KEY", key).replace("VALUE", value).replace("FIRST", value.partition(",")[0]))


@pytest.mark.parametrize(("degree", "asked", "held"), [(8, 0.25, 2), (2, 0.01, 1), (2, 0.99, 1), (100, 0.25, 25)])
def test_ends_held_out_are_a_share_but_never_none_or_all(degree: int, asked: float, held: int) -> None:
    task = InWeightsPathStar(degree=degree, length=2, asked=asked)
    batch = task.sample(4000, seeds.stream("ends"))
    goals = batch.tokens[torch.from_numpy(task.held_out(batch)), 1]
    assert len(set(goals.tolist())) == held
