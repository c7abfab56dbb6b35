"""Path-star: what each option draws, alone and with the others, what is accepted, and what is said of bad lines."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, get_args

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from task_checks import check_all

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import stream, torch_stream
from foresee.core.spec import describe, resolve
from foresee.tasks import tasks
from foresee.tasks.example_files import read_examples
from foresee.tasks.path_star import PathStar, PathStarBranch
from foresee.tasks.path_star_draw import EdgeOrder, Generalised, Goals, Query, Shape, Sizes, distinct, edge_order
from foresee.tasks.path_star_oracle import read_prompt
from foresee.tasks.star import Star

BASE = "path-star:degree=2,length=4,nodes=20,goals=one"
G24 = PathStar(degree=2, length=4, nodes=20, goals="one")
G25 = PathStar(degree=2, length=5, nodes=50, goals="one")
SAMPLE_LINE = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=32,34,6,16,12"
EVERY_VARIANT: list[dict[str, Any]] = [
    {"order": "arm-wise"},
    {"order": "causal-wise"},
    {"query": "first"},
    {"generalised": "arm"},
    {"generalised": "path"},
    {"sizes": "mixed"},
    {"splits": "1"},
    {"splits": "1+2"},
]


def every_combination() -> list[PathStar]:
    """Every combination of options that is allowed, on small graphs and with as few or a few more labels."""
    plain = product(["none"], get_args(EdgeOrder), get_args(Generalised), get_args(Sizes))
    options = [*plain, *product(["1", "2", "1+2", "1+3"], ["shuffled"], ["none"], ["fixed"])]
    found: list[PathStar] = []
    for degree, length, goals, query in product([1, 2, 3], [2, 3, 5], get_args(Goals), get_args(Query)):
        for splits, order, generalised, sizes in options:
            distances = () if splits == "none" else tuple(map(int, splits.split("+")))
            if not distances or distances[-1] <= length - 2:
                nodes = Shape(degree, length, distances).nodes + len(found) % 3 * 11
                found.append(
                    PathStar(
                        degree=degree, length=length, nodes=nodes,
                        goals=goals, query=query, order=order, generalised=generalised, sizes=sizes, splits=splits,
                    )
                )  # fmt: skip
    return found


EVERY_COMBINATION = every_combination()


def variants() -> st.SearchStrategy[PathStar]:
    # Drawn as one: option by option, most draws would be of the first choices.
    return st.sampled_from(EVERY_COMBINATION)


def edges_in(task: PathStar, prompt: list[int]) -> list[tuple[int, int]]:
    pairs = list(zip(prompt[::3], prompt[1::3], strict=True))
    return pairs[1:] if task.query == "first" else pairs[:-1]


def query_in(task: PathStar, prompt: list[int]) -> list[int]:
    return prompt[:2] if task.query == "first" else prompt[-3:-1]


# What it reports and draws


def test_sizes_and_references_of_g_2_5_and_of_one_arm() -> None:
    assert (G25.prompt_length, G25.answer_length, G25.chance, G25.group) == (27, 5, 0.5, 1)
    assert G25.plateau == pytest.approx(math.log(2) / 5)
    assert len(G25.vocab) == 54
    assert G25.vocab.decode([0, 49, 50, 51, 52, 53]) == ["0", "49", "|", "=", "/", "$"]
    task = PathStar(degree=1, length=4, nodes=4, goals="one")
    assert (task.chance, task.plateau) == (1.0, 0.0)
    assert task.sample(5, seeds.stream("test")).facts["goal_arm"].tolist() == [0] * 5


@settings(max_examples=200)
@given(variants(), st.integers(1, 9), st.integers(0, 2**32))
def test_every_variant_keeps_what_a_task_must(task: PathStar, n: int, seed: int) -> None:
    batch = task.sample(n, seeds.stream("test", seed))
    assert torch.equal(batch.tokens, task.sample(n, seeds.stream("test", seed)).tokens)
    assert batch.tokens.shape == (n, task.prompt_length + task.answer_length)
    check_all(task, batch, seeds.stream("changes", seed))
    columns = torch.arange(batch.tokens.shape[1])
    assert not batch.tokens[columns >= (batch.prompt_len + batch.answer_len)[:, None]].any()
    rng = numpy.random.default_rng(seed)
    derived, identities = task.facts_of(batch), task.identity(batch)
    for row, (prompt, answer) in enumerate(batch.pairs()):
        edges = edges_in(task, prompt)
        for facts in (batch.facts, derived):
            assert facts["branch"][row] == 1
            assert ("goal_arm" in facts) == (task.splits == "none")
            paths = [[node for node in path if node >= 0] for path in facts["arms"][row].tolist()]
            assert {edge for path in paths for edge in pairwise(path)} == set(edges)
            assert len({path[-1] for path in paths}) == len(paths)
            assert {path[0] for path in paths} == {answer[0]}
            if "goal_arm" in facts:
                assert paths[int(facts["goal_arm"][row])][: len(answer)] == answer
        assert sorted(batch.facts["arms"][row].tolist()) == sorted(derived["arms"][row].tolist())
        # The same graph, asked for one of its ends in the plain form, its edges in another order, is the same problem.
        edges = rng.permutation(edges).tolist()
        end = next(child for _, child in edges if child not in [node for node, _ in edges])
        length = int((batch.facts["arms"][row, 0] >= 0).sum())
        plain = PathStar(degree=task.degree, length=length, nodes=task.nodes, splits=task.splits, goals="one")
        tokens, _ = plain.read_line("|".join(f"{u},{v}" for u, v in edges) + f"/{answer[0]},{end}=")
        assert identities[row] == plain.identity(Batch.of(torch.tensor([tokens]), len(tokens), 0))[0]


@settings(max_examples=200)
@given(variants(), st.integers(1, 23), st.integers(0, 2**32))
def test_groups_hold_one_graph_and_share_the_declared_prefix(task: PathStar, n: int, seed: int) -> None:
    task = replace(task, goals="all")
    assert task.group == task.degree * 2 ** len(task.shape.splits)
    batch = task.sample(n, seeds.stream("test", seed))
    assert len(batch) == n
    rows = list(batch.pairs())
    for at in range(0, n, task.group):
        group = rows[at : at + task.group]
        assert len({tuple(edges_in(task, prompt)) for prompt, _ in group}) == 1
        assert len({tuple(prompt[: task.shared_prefix]) for prompt, _ in group}) == 1
        assert len({query_in(task, prompt)[1] for prompt, _ in group}) == len(group)
        if len(group) > 1 and task.sizes == "fixed":
            assert len({prompt[task.shared_prefix] for prompt, _ in group}) > 1
        assert len(set(task.identity(batch)[at : at + task.group].tolist())) == 1
    # The prefix of a mixed group is that of the smallest graph.
    mixed = PathStar(degree=3, length=5, nodes=20, goals="all", sizes="mixed")
    assert (mixed.prompt_length, mixed.shared_prefix, replace(mixed, query="first").shared_prefix) == (39, 10, 1)
    assert replace(mixed, goals="one").shared_prefix == 0


GOLDEN = [
    ({}, "acda9dd80a743b43"),
    ({"nodes": 70_000}, "d63885f0d1021378"),
    ({"query": "first"}, "d60cc0e3578ff523"),
    ({"splits": "1", "goals": "all"}, "73570cd1f18bec45"),
    ({"order": "arm-wise"}, "0918cbd0325266f7"),
    ({"order": "causal-wise"}, "66be61dea84f8fc2"),
    ({"generalised": "arm"}, "7388f1edb2dfe9e4"),
    ({"generalised": "path", "sizes": "mixed"}, "5cee6888d354e37f"),
]


@pytest.mark.parametrize(("options", "expected"), GOLDEN)
def test_draws_never_change(options: dict[str, Any], expected: str) -> None:
    # A change here makes every run of the past irreproducible.
    tokens = replace(G24, **options).sample(1000, seeds.stream("golden variants")).tokens
    assert hashlib.sha256(tokens.numpy().astype("<i8").tobytes()).hexdigest()[:16] == expected


def test_options_at_their_defaults_are_not_part_of_a_spec() -> None:
    later = "order=shuffled,query=last,generalised=none,sizes=fixed,splits=none"
    assert resolve(tasks, f"{BASE},{later}").text == BASE
    assert describe(tasks, G24) == BASE
    for options in EVERY_VARIANT:
        task = replace(G24, **options)
        text = describe(tasks, task)
        assert text == BASE + "".join(f",{name}={value}" for name, value in options.items())
        assert resolve(tasks, text).build() == task


# How it is distributed. A chi-square statistic over its degrees of freedom is near 1; six standard deviations are
# allowed.


def assert_even(counts: numpy.ndarray) -> None:
    counts = counts.reshape(-1)
    expected, freedom = counts.sum() / len(counts), len(counts) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert abs(statistic - freedom) < 6 * math.sqrt(2 * freedom)


def assert_uniform(values: numpy.ndarray, kinds: int) -> None:
    _, counts = numpy.unique(values, return_counts=True, axis=0)
    assert len(counts) == kinds
    assert_even(counts)


@pytest.mark.parametrize(("count", "pool"), [(1, 5), (2, 5), (3, 4), (4, 4)])
def test_every_ordered_choice_is_equally_likely(count: int, pool: int) -> None:
    chosen = distinct(seeds.stream("choices", count, pool), count, pool, 60_000).astype(numpy.int64)
    codes = (chosen * pool ** numpy.arange(count)[:, None]).sum(axis=0)
    _, counts = numpy.unique(codes, return_counts=True)
    assert len(counts) == math.perm(pool, count)
    assert_even(counts)


def test_labels_edges_and_goal_arms_are_uniform() -> None:
    task = PathStar(degree=3, length=3, nodes=20, goals="one")
    batch = task.sample(40_000, seeds.stream("uniform"))
    arms, goal_arm = batch.facts["arms"].numpy(), batch.facts["goal_arm"].numpy()
    for arm in range(3):
        for place in range(3):
            assert_even(numpy.bincount(arms[:, arm, place], minlength=20))
    assert_even(numpy.bincount(goal_arm, minlength=3))
    # Where in the prompt each edge of each arm is written, and the goal arm's first edge above all.
    edges = batch.prompts[:, :-3].numpy().reshape(len(batch), 6, 3)
    for arm in range(3):
        for place in range(1, 3):
            where = (edges[:, :, 1] == arms[:, arm, place, None]).argmax(axis=1)
            assert_even(numpy.bincount(where, minlength=6))
    where = (edges[:, :, 1] == batch.answers[:, 1].numpy()[:, None]).argmax(axis=1)
    assert_even(numpy.bincount(where * 3 + goal_arm, minlength=18))


def test_all_goals_come_in_random_order_and_facts_hide_the_goal() -> None:
    task = PathStar(degree=3, length=2, nodes=10, goals="all")
    batch = task.sample(30_000, seeds.stream("order of goals"))
    goal_arm = batch.facts["goal_arm"].numpy().reshape(-1, 3)
    _, counts = numpy.unique(goal_arm @ [9, 3, 1], return_counts=True)
    assert len(counts) == 6
    assert_even(counts)
    assert_even(numpy.bincount(task.facts_of(batch)["goal_arm"].numpy(), minlength=3))


def test_causal_wise_orders_are_all_interleavings_of_arms_outwards() -> None:
    order = edge_order(seeds.stream("interleavings"), Shape(3, 3), "causal-wise", 40_000).T
    assert_uniform(order, math.factorial(6) // 2**3)
    places = numpy.argsort(order, axis=1).reshape(-1, 3, 2)
    assert (places[:, :, 0] < places[:, :, 1]).all()


def test_arm_wise_prompts_hold_arm_after_arm() -> None:
    task = PathStar(degree=3, length=4, nodes=30, order="arm-wise", goals="one")
    batch = task.sample(20_000, seeds.stream("arms"))
    edges = batch.prompts[:, :-3].view(-1, 3, 3, 3)[..., :2]
    start = batch.answers[:, 0]
    assert (edges[:, :, 0, 0] == start[:, None]).all()
    assert (edges[:, :, 1:, 0] == edges[:, :, :-1, 1]).all()
    # The goal's arm is first, second or third equally often.
    where = (edges[:, :, -1, 1] == batch.answers[:, -1:]).nonzero()[:, 1]
    assert_uniform(where.numpy(), 3)


def test_lengths_goals_and_ends_are_uniform() -> None:
    mixed = PathStar(degree=2, length=6, nodes=30, sizes="mixed", goals="one").sample(30_000, seeds.stream("mixed"))
    assert_uniform(mixed.answer_len.numpy(), 5)
    assert torch.equal(mixed.prompt_len, 6 * (mixed.answer_len - 1) + 3)
    asked = PathStar(degree=2, length=6, nodes=30, generalised="path", goals="one").sample(30_000, seeds.stream("path"))
    assert_uniform(asked.answer_len.numpy(), 5)
    arm = PathStar(degree=2, length=6, nodes=30, generalised="arm", goals="one").sample(30_000, seeds.stream("arm"))
    place = (arm.answers == arm.prompts[:, -2:-1]).nonzero()[:, 1]
    assert_uniform(place.numpy(), 5)
    tree = PathStar(degree=2, length=3, nodes=10, splits="1", goals="one").sample(30_000, seeds.stream("tree"))
    end = (tree.facts["arms"][:, :, -1] == tree.answers[:, -1:]).nonzero()[:, 1]
    assert_uniform(end.numpy(), 4)
    # Nor does the prompt's order of edges tell the goal.
    where = (tree.prompts[:, 1:-3:3] == tree.answers[:, -1:]).nonzero()[:, 1]
    assert_uniform(where.numpy(), 6)


@pytest.mark.parametrize(
    ("options", "prompt", "chance", "plateau"),
    [
        ({"order": "arm-wise", "query": "first"}, 39, 1 / 3, math.log(3) / 5),
        ({"generalised": "arm"}, 39, 1 / 2, 0.75 * math.log(3) / 5),
        ({"generalised": "path"}, 39, 1 / 2, 0.75 * math.log(3) / 3.5),
        ({"sizes": "mixed"}, 39, 1 / 2, 0.75 * math.log(3) / 3.5),
        ({"sizes": "mixed", "generalised": "path"}, 39, 49 / 72, 23 / 48 * math.log(3) / 2.75),
        ({"splits": "1"}, 66, 1 / 6, math.log(6) / 5),
        ({"splits": "1+3"}, 84, 1 / 12, math.log(12) / 5),
    ],
)
def test_sizes_and_references(options: dict[str, Any], prompt: int, chance: float, plateau: float) -> None:
    task = PathStar(degree=3, length=5, nodes=60, **options, goals="one")
    assert (task.prompt_length, task.answer_length) == (prompt, 5)
    assert [task.chance, task.plateau] == pytest.approx([chance, plateau])
    batch = task.sample(20_000, seeds.stream("plateau"))
    # Blind decisions at all forks, but where the goal that is asked for is the node to step to.
    goal = torch.tensor([asked[1 if task.query == "first" else -2] for asked, _ in batch.pairs()])
    blind = (batch.padded_answers()[:, 1] != goal).float().mean().item()
    ends = batch.facts["arms"].shape[1]
    assert 1 - blind + blind / ends == pytest.approx(chance, abs=0.02)
    measured = blind * len(batch) * math.log(ends) / int(batch.answer_len.sum())
    assert math.isclose(measured, plateau, rel_tol=0.04)
    alone = PathStarBranch(degree=3, length=5, nodes=60, **options, goals="one")
    assert alone.chance == task.branch_chance
    assert alone.plateau == pytest.approx(blind * math.log(3), rel=0.04)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"degree": 0}, "degree=0 must be at least 1"),
        ({"length": 1}, "length=1 must be at least 2"),
        ({"goals": "some"}, "goals='some' must be one of one, all"),
        ({"order": "sorted"}, "order='sorted' must be one of shuffled, arm-wise, causal-wise"),
        ({"query": "middle"}, "query='middle' must be one of last, first"),
        ({"generalised": "any"}, "generalised='any' must be one of none, arm, path"),
        ({"sizes": "short"}, "sizes='short' must be one of fixed, mixed"),
        ({"splits": ""}, "splits='', but it must be none or distances from the centre joined by +, as in 1+3"),
        ({"splits": "01"}, "splits='01', but it must be none or distances"),
        ({"splits": "2+1"}, "splits=2+1, but each distance must be greater than the one before it"),
        ({"splits": "1+1"}, "splits=1+1, but each distance must be greater than the one before it"),
        ({"splits": "3"}, "splits=3, but with length=4 only nodes at distances 1 to 2 have children"),
        ({"length": 2, "splits": "1"}, "splits=1, but with length=2 no node of an arm has children"),
        ({"splits": "1", "order": "arm-wise"}, "cannot be combined with order=arm-wise, since the order of the edges"),
        ({"splits": "1", "generalised": "path"}, "cannot be combined with generalised=path, since a node above a"),
        ({"splits": "1", "sizes": "mixed"}, "cannot be combined with sizes=mixed, since where shorter arms split"),
        ({"splits": "1", "nodes": 10}, "nodes=10, but degree=2,length=4,splits=1 needs at least 11 node labels"),
        ({"sizes": "mixed", "nodes": 6}, "nodes=6, but degree=2,length=4 needs at least 7 node labels"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with refused("path-star: ", message):
        replace(G24, **options)


def test_the_published_line_reads() -> None:
    prompt, answer = G25.read_line(SAMPLE_LINE)
    assert prompt[:6] == [32, 3, 50, 16, 12, 50]
    assert prompt[-4:] == [52, 32, 12, 51]
    assert answer == [32, 34, 6, 16, 12]
    assert G25.write_line(prompt, answer) == SAMPLE_LINE
    assert G25.read_line(SAMPLE_LINE + "\r\n") == (prompt, answer)


FIRST = {"query": "first"}
ARM, PATH, MIXED, TREE = {"generalised": "arm"}, {"generalised": "path"}, {"sizes": "mixed"}, {"splits": "1"}
SMALL_TREE = "1,2|2,3|2,4|1,5|5,6|5,7"
STAR = "1,2|2,3|1,4|4,5/1,3="
BAD_PLAIN = [
    ("1,2|2,3|1,4|4,5|1,3=1,2,3", "there must be one '/' after the edges and '=' after the start and the goal"),
    ("1,2|2,3|1,4|4,5/1,3", "there is no '=' where the problem ends; a line reads u,v|"),
    ("1,2|2;3|1,4|4,5/1,3=1,2,3", "label '2;3' in edge 2 is not a whole number written in plain digits"),
    ("1,2|2,3,4|1,4|4,5/1,3=1,2,3", "edge 2 is '2,3,4', but"),
    ("1,2|2,3|1,4|/1,3=1,2,3", "edge 4 is '', but"),
    ("1,2|2,9|1,4|4,5/1,9=1,2,9", "label '9' in edge 2 is out of range: it must be from 0 to 8"),
    ("1,2|2,3|1,4|4,5/1=1,2,3", "'1' stands between '/' and '=', where start and goal joined by a comma must"),
    ("1,2|2,3|1,4|4,5/1,3=1,12,3", "label '12' in the answer is out of range: it must be from 0 to 8"),
    ("1,2|2,3|1,4/1,3=1,2,3", "there are 3 edges, but degree=2,length=3 has 4"),
    ("1,2|2,3|3,6|1,4|4,5|5,7/1,6=", "has 4; the line looks like degree=2,length=4"),
    ("1,2|1,3|1,4|1,5/1,3=1,3", "left by 4 edges, where 2 must be; the line looks like degree=4,length=2"),
    ("1,2|2,3|1,4|4,3/1,3=1,2,3", "the edges do not form 2 arms of 3 nodes: node 3 is entered by 2 edges"),
    ("1,2|1,2|1,4|4,5/1,5=1,4,5", "node 2 is entered by 2 edges"),
    ("1,2|2,3|3,4|4,1/1,3=1,2,3", "they go round in a circle"),
    ("1,2|2,3|6,4|4,5/1,3=1,2,3", "nodes 1 and 6 are both entered by no edge, but only the centre may be"),
    ("1,2|2,3|2,4|1,5/1,3=1,2,3", "node 2 at distance 1 from the centre is left by 2 edges, where 1 must be"),
    ("1,2|2,3|3,4|1,5/1,4=1,2,3", "node 5 at distance 1 from the centre is left by 0 edges, where 1 must be"),
    ("1,2|2,3|4,5|5,4/1,3=1,2,3", "node 1 in the centre is left by 1 edges, where 2 must be"),
    ("1,2|2,3|1,4|4,5/2,3=1,2,3", "the start 2 is not the centre of the graph, 1"),
    ("1,2|2,3|1,4|4,5/7,3=1,2,3", "the start 7 is not the centre of the graph, 1"),
    ("1,2|2,3|1,4|4,5/1,2=1,2,3", "the goal 2 is not the end of an arm; the arms end in 3, 5"),
    (STAR + "1,4,3", "node 2 of the answer is 4, but the path from 1 to 3 has 2 there"),
    (STAR + "1,2,5", "node 3 of the answer is 5, but the path from 1 to 3 has 3 there"),
    (STAR + "2,2,3", "node 1 of the answer is 2, but the path from 1 to 3 has 1 there"),
    (STAR + "1,2", "the answer has 2 nodes, but the path from 1 to 3 has 3"),
    (STAR + "1,2,3,3", "the answer has 4 nodes, but the path from 1 to 3 has 3"),
    ("/1,3=", "edge 1 is '', but an edge is two labels"),
]  # fmt: skip
LINES: list[tuple[dict[str, Any], str, str | None]] = [
    *(({}, line, message) for line, message in BAD_PLAIN),
    (FIRST, "1,3/1,2|2,3|1,4|4,5=1,2,3", None),
    (FIRST, "1,2|2,3|1,4|4,5/1,3=1,2,3", "'1,2|2,3|1,4|4,5' stands before '/', where start and goal"),
    (FIRST, "1,3|1,2|2,3|1,4|4,5=1,2,3", "one '/' after the start and the goal and '=' after the edges"),
    ({"order": "arm-wise"}, "1,4|4,5|1,2|2,3/1,3=1,2,3", None),
    ({"order": "arm-wise"}, "1,2|1,4|2,3|4,5/1,3=1,2,3", "edge 2 is 1,4, but with order=arm-wise it must leave 2"),
    ({"order": "arm-wise"}, "2,3|1,2|1,4|4,5/1,3=1,2,3", "edge 1 is 2,3, but with order=arm-wise it must leave 1"),
    ({"order": "causal-wise"}, "1,2|1,4|2,3|4,5/1,3=1,2,3", None),
    ({"order": "causal-wise"}, "1,2|4,5|2,3|1,4/1,3=", "edge 2 is 4,5, but with order=causal-wise the edge into 4"),
    (ARM, "1,2|2,3|1,4|4,5/1,2=1,2,3", None),
    (ARM, "1,2|2,3|1,4|4,5/1,5=1,4,5", None),
    (ARM, "1,2|2,3|1,4|4,5/1,2=1,2", "the answer has 2 nodes, but the path from 1 to 3 has 3"),
    (ARM, "1,2|2,3|1,4|4,5/1,1=", "the goal 1 is not on an arm, the centre aside; the arms end in 3, 5"),
    (PATH, "1,2|2,3|1,4|4,5/1,2=1,2", None),
    (PATH, "1,2|2,3|1,4|4,5/1,2=1,2,3", "the answer has 3 nodes, but the path from 1 to 2 has 2"),
    (PATH, "1,2|2,3|1,4|4,5/1,7=", "the goal 7 is not on an arm, the centre aside; the arms end in 3, 5"),
    (MIXED, "1,2|1,4/1,4=1,4", None),
    (MIXED, "1,2|1,4|1,5/1,4=1,4", "there are 3 edges, but degree=2,length=3,sizes=mixed has a multiple of 2"),
    (MIXED, "1,2|2,4/1,4=1,2,4", "the edges do not form 2 arms of 2 nodes: node 1 in the centre is left by 1"),
    (TREE, f"{SMALL_TREE}/1,4=1,2,4", None),
    (TREE, f"{SMALL_TREE}/1,2=1,2", "the goal 2 is not the end of an arm; the arms end in 3, 4, 6, 7"),
    (TREE, "1,2|2,3|1,4|4,5/1,3=1,2,3", "there are 4 edges, but degree=2,length=3,splits=1 has 6; the line looks"),
    (TREE, "1,2|2,3|2,4|1,5|5,6|2,7/1,3=", "split at distance 1: node 2 at distance 1 from the centre is left by 3"),
    (TREE, "1,2|2,3|2,4|1,5|5,6|6,7/1,3=", "node 5 at distance 1 from the centre is left by 1 edges, where 2 must"),
    (TREE, "1,2|2,3|2,4|1,5|5,6|5,4/1,3=", "node 4 is entered by 2 edges"),
    (TREE, f"{SMALL_TREE}/2,4=", "the start 2 is not the centre of the graph, 1"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "line", "message"), LINES)
def test_lines(options: dict[str, Any], line: str, message: str | None) -> None:
    task = PathStar(degree=2, length=3, nodes=9, **options, goals="one")
    if message is None:
        prompt, answer = task.read_line(line)
        assert task.write_line(prompt, answer) == line
        assert task.solve(prompt) == answer
        return
    with refused(message):
        task.read_line(line)


@pytest.mark.parametrize(
    ("options", "prompt", "message"),
    [
        ({}, "= 2 | 2 3 | 1 4 | 4 5 / 1 3 =", "edge 1 is '=,2', but an edge is two labels"),
        ({}, "1 2 | 2 3 | 1 4 | 4 5 / 1 3", "path-star: the prompt has 14 tokens, but must have 15"),
        ({}, "1 2 | 2 3 | 1 4 | 4 5 / 1 1 =", "no path of 3 nodes leads from 1 to 1"),
        ({}, "1 2 | 2 3 | 1 4 | 4 5 / 1 0 =", "no path of 3 nodes leads from 1 to 0"),
        (FIRST, "1 2 | 2 3 | 1 4 | 4 5 / 1 3 =", "'1,2|2,3|1,4|4,5' stands before '/', where start and goal"),
        (FIRST, "1 3 / 1 2 | 2 3 | 1 4 | 4 5 |", "there must be one '/' after the start and the goal"),
        (MIXED, "1 2 | 2 3 | 1 4 / 1 3 =", "path-star: the prompt has 12 tokens, but must have 9 or 15"),
        ({}, "1 2 | 2", "path-star: the prompt has 4 tokens, but must have 15"),
        (MIXED, "1 3 =", "path-star: the prompt has 3 tokens, but must have 9 or 15"),
        (MIXED, "1 2 | 2 3 / 1 3 =", "no path of 2 nodes leads from 1 to 3"),
        (ARM, "1 2 | 2 3 | 1 4 | 4 5 / 1 1 =", "no path of 3 nodes leads from 1 through 1"),
        (ARM, "1 2 | 7 3 | 1 4 | 4 5 / 1 2 =", "no path of 3 nodes leads from 1 through 2"),
        (PATH, "1 2 | 2 3 | 1 4 | 4 5 / 1 1 =", "no path of 2 nodes or more leads from 1 to 1"),
        (PATH, "1 2 | 2 3 | 1 4 | 4 5 / 1 8 =", "no path of 2 nodes or more leads from 1 to 8"),
        (PATH, "1 2 | 2 3 | 3 2 | 4 5 / 1 3 =", "no path of 2 nodes or more leads from 1 to 3"),
    ],
)
def test_solve_refuses_a_malformed_prompt(options: dict[str, Any], prompt: str, message: str) -> None:
    task = PathStar(degree=2, length=3, nodes=9, **options, goals="one")
    with refused(message):
        task.solve(task.vocab.encode(prompt.split()))


@given(variants(), st.text(alphabet="0123,|/=", max_size=60))
def test_no_text_escapes_the_reader(task: PathStar, line: str) -> None:
    try:
        prompt, answer = task.read_line(line)
    except RequestError as error:
        assert str(error)  # noqa: PT017  # a refusal is one outcome of two
        return
    assert task.write_line(prompt, answer) == line.strip()


# Stars whose arms differ in length: the published form, what is refused, and wrong turns


PUBLISHED = """\
9,6|9,0|0,19|12,15|18,17|3,9|17,13|6,12|9,18/9,13=9,18,17,13
6,18|8,16|14,4|8,6|16,10|7,9|4,8|8,7|18,13/8,9=8,7,9
15,9|11,12|7,0|4,9|9,16|18,15|9,13|13,7|9,11|16,5/4,0=4,9,13,7,0
16,12|6,3|7,18|12,15|5,7|18,15|15,0|14,15|19,8|15,19|0,17|15,6|8,4/5,3=5,7,18,15,6,3
"""
"""Four examples of the public star-medium in the paper's form."""


def star(spec: str) -> Star:
    built = resolve(tasks, spec).build()
    assert isinstance(built, Star)
    return built


def test_published_examples_are_read_with_the_place_and_the_depth_of_each_decision(tmp_path: Path) -> None:
    (tmp_path / "star.txt").write_text(PUBLISHED)
    task = star("star-medium")
    batch = read_examples(tmp_path / "star.txt", task)
    assert "".join(task.write_line(*pair) + "\n" for pair in batch.pairs()) == PUBLISHED
    assert batch.facts["branch"].tolist() == [1, 1, 2, 4]
    assert batch.facts["distance"].tolist() == [3, 2, 3, 2]
    assert (task.hops, task.chance) == (5, 1 / 3)


def test_wrong_turns_leave_the_centre_along_a_path_that_goes_on_long_enough() -> None:
    task = star("star-hard")
    batch = task.sample(300, stream("star"))
    wrong = task.wrong_turn(batch, torch_stream("star"))
    assert wrong is not None
    edges = [set(map(tuple, read_prompt(task, prompt)[0])) for prompt, _ in batch.pairs()]
    for row, place, answer in zip(wrong.rows.tolist(), wrong.place.tolist(), wrong.answers.tolist(), strict=True):
        (_, right), length = next(iter(batch.rows(slice(row, row + 1)).pairs())), int(batch.answer_len[row])
        assert answer[:place] == right[:place]
        assert answer[place] != right[place]
        assert all(step in edges[row] for step in pairwise(answer[:length]))
    taken = batch.padded_answers().gather(1, batch.facts["branch"][:, None])[:, 0]
    assert torch.equal(task.implied(batch, taken), batch.padded_answers())  # type: ignore[arg-type]  # it implies one
