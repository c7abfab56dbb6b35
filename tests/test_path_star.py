"""Path-star: what it draws, what it accepts, and what it says of bad lines."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise
from typing import Any, Literal

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.spec import resolve
from foresee.tasks import tasks
from foresee.tasks.path_star import PathStar
from foresee.tasks.path_star_graphs import distinct

SAMPLE_LINE = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=32,34,6,16,12"
G25 = PathStar(degree=2, length=5, nodes=50)


@st.composite
def stars(draw: st.DrawFn) -> PathStar:
    degree, length = draw(st.integers(1, 6)), draw(st.integers(2, 6))
    nodes = 1 + degree * (length - 1) + draw(st.sampled_from([0, 1, 40, 70_000]))
    return PathStar(degree=degree, length=length, nodes=nodes, goals=draw(st.sampled_from(["one", "all"])))


# What a task reports


def test_sizes_and_references_of_g_2_5() -> None:
    assert (G25.prompt_length, G25.answer_length, G25.chance, G25.group) == (27, 5, 0.5, 1)
    assert math.isclose(G25.plateau, math.log(2) / 5)
    assert len(G25.vocab) == 54
    assert G25.vocab.decode([0, 49, 50, 51, 52, 53]) == ["0", "49", "|", "=", "/", "$"]


def test_one_arm_leaves_nothing_to_decide() -> None:
    task = PathStar(degree=1, length=4, nodes=4)
    assert (task.chance, task.plateau) == (1.0, 0.0)
    batch = task.sample(5, seeds.stream("test"))
    assert batch.facts["goal_arm"].tolist() == [0] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"degree": 2, "length": 5, "nodes": 8},
            "path-star: nodes=8, but degree=2,length=5 needs at least 9 node labels",
        ),
        ({"degree": 0, "length": 5, "nodes": 8}, "path-star: degree=0, but a star needs at least 1 arm"),
        ({"degree": 2, "length": 1, "nodes": 8}, "path-star: length=1, but an arm has at least 2 nodes"),
        ({"degree": 2, "length": 2, "nodes": 8, "goals": "some"}, "goals='some', but it must be one of one, all"),
    ],
)
def test_impossible_graphs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        PathStar(**options)
    assert message in str(caught.value)


def test_spec_builds_it() -> None:
    resolved = resolve(tasks, "path-star:degree=2,length=5,nodes=50")
    assert resolved.text == "path-star:degree=2,length=5,nodes=50,goals=one"
    assert resolved.build() == G25


# What it draws


@given(stars(), st.integers(1, 9), st.integers(0, 2**32))
def test_every_row_is_a_star_whose_answer_is_the_solution(task: PathStar, n: int, seed: int) -> None:
    batch = task.sample(n, seeds.stream("test", seed))
    again = task.sample(n, seeds.stream("test", seed))
    assert torch.equal(batch.tokens, again.tokens)
    assert batch.tokens.shape == (n, task.prompt_length + task.answer_length)
    assert batch.tokens.dtype == torch.int64
    for prompt, answer in zip(batch.prompts.tolist(), batch.answers.tolist(), strict=True):
        assert task.solve(prompt) == answer
        assert task.verify(prompt, answer)
        assert len({*prompt[0:-3:3], *prompt[1:-3:3]}) == 1 + task.edges
        assert task.read_line(task.write_line(prompt, answer)) == (prompt, answer)
        assert task.read_line(task.write_line(prompt, [])) == (prompt, [])


@given(stars(), st.integers(0, 2**32))
def test_facts_agree_with_tokens(task: PathStar, seed: int) -> None:
    batch = task.sample(4 * task.degree, seeds.stream("test", seed))
    rows = torch.arange(len(batch))
    derived = task.facts_of(batch)
    for facts in (batch.facts, derived):
        assert {name: fact.dtype for name, fact in facts.items()} == dict.fromkeys(
            ("arms", "goal_arm", "branch"), torch.int64
        )
        assert torch.equal(facts["arms"][rows, facts["goal_arm"]], batch.answers)
        assert facts["branch"].tolist() == [1] * len(batch)
    for drawn, found in zip(batch.facts["arms"].tolist(), derived["arms"].tolist(), strict=True):
        assert sorted(drawn) == sorted(found)
    for arms, prompt in zip(batch.facts["arms"].tolist(), batch.prompts.tolist(), strict=True):
        walked = {edge for arm in arms for edge in pairwise(arm)}
        assert walked == set(zip(prompt[0:-3:3], prompt[1:-3:3], strict=True))


@given(stars(), st.integers(0, 2**32), st.data())
def test_verify_rejects_every_change_of_one_symbol(task: PathStar, seed: int, data: st.DataObject) -> None:
    batch = task.sample(1, seeds.stream("test", seed))
    prompt, answer = batch.prompts[0].tolist(), batch.answers[0].tolist()
    others = range(len(task.vocab)) if len(task.vocab) < 100 else data.draw(st.lists(st.integers(0, 99), min_size=9))
    for place, right in enumerate(answer):
        for other in others:
            changed = [*answer[:place], other, *answer[place + 1 :]]
            assert task.verify(prompt, changed) == (other == right)
    assert not task.verify(prompt, answer[:-1])
    assert not task.verify(prompt, [*answer, answer[-1]])


@given(stars(), st.integers(0, 2**32))
def test_identity_is_that_of_the_graph(task: PathStar, seed: int) -> None:
    batch = task.sample(2, seeds.stream("test", seed))
    rng = numpy.random.default_rng(seed)
    edges = batch.prompts[0, : 3 * task.edges].view(-1, 3)[:, :2].numpy()
    other_goal = int(batch.facts["arms"][0, rng.integers(task.degree), -1])

    def row(pairs: numpy.ndarray) -> list[int]:
        text = "|".join(f"{u},{v}" for u, v in pairs)
        return task.read_line(f"{text}/{int(batch.answers[0, 0])},{other_goal}=")[0]

    shuffled = torch.tensor([row(rng.permutation(edges)), row(edges)])
    same = batch.rows(slice(0, 2)).tokens.clone()
    same[:, : task.prompt_length] = shuffled
    identity = task.identity(batch)
    assert identity.dtype == numpy.uint64
    assert set(task.identity(Batch.of(same, task.prompt_length, task.answer_length)).tolist()) == {identity[0]}
    # One edge turned round is another graph.
    same[0, [0, 1]] = same[0, [1, 0]]
    assert task.identity(Batch.of(same, task.prompt_length, task.answer_length))[0] != identity[0]


@given(st.integers(1, 5), st.integers(1, 23), st.integers(0, 2**32))
def test_all_goals_come_with_one_graph(degree: int, n: int, seed: int) -> None:
    task = PathStar(degree=degree, length=3, nodes=40, goals="all")
    assert task.group == degree
    batch = task.sample(n, seeds.stream("test", seed))
    assert len(batch) == n
    for at in range(0, n, degree):
        group = batch.rows(slice(at, at + degree))
        assert len({tuple(row[:-2]) for row in group.prompts[:, :-1].tolist()}) == 1
        assert len(set(group.answers[:, -1].tolist())) == len(group)
    assert len(set(task.identity(batch).tolist())) == -(-n // degree)


@pytest.mark.parametrize(
    ("goals", "expected"),
    [
        ("one", "be899534e3afb5f1678af94584a7a06af4e206667d5217a643abcc55d7147773"),
        ("all", "6f2892b5c3ac2152a1bdb89cf6ddbb8b04c9a13bf33fe30db16a8d3f51c881aa"),
    ],
)
def test_draws_never_change(goals: Literal["one", "all"], expected: str) -> None:
    # A change here makes every run of the past irreproducible.
    task = PathStar(degree=3, length=4, nodes=50, goals=goals)
    tokens = task.sample(1000, seeds.stream("golden", goals)).tokens
    assert hashlib.sha256(tokens.numpy().astype("<i8").tobytes()).hexdigest() == expected


# Uniformity. A chi-square statistic over its degrees of freedom is near 1; six standard deviations are allowed.


def assert_uniform(counts: numpy.ndarray) -> None:
    counts = counts.reshape(-1)
    expected = counts.sum() / len(counts)
    freedom = len(counts) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert abs(statistic - freedom) < 6 * math.sqrt(2 * freedom)


@pytest.mark.parametrize(("count", "pool"), [(1, 5), (2, 5), (3, 4), (4, 4)])
def test_every_ordered_choice_is_equally_likely(count: int, pool: int) -> None:
    chosen = distinct(seeds.stream("choices", count, pool), count, pool, 60_000).astype(numpy.int64)
    codes = (chosen * pool ** numpy.arange(count)[:, None]).sum(axis=0)
    _, counts = numpy.unique(codes, return_counts=True)
    assert len(counts) == math.perm(pool, count)
    assert_uniform(counts)


def test_labels_edges_and_goal_arms_are_uniform() -> None:
    task = PathStar(degree=3, length=3, nodes=20)
    batch = task.sample(40_000, seeds.stream("uniform"))
    arms, goal_arm = batch.facts["arms"].numpy(), batch.facts["goal_arm"].numpy()
    for arm in range(3):
        for place in range(3):
            assert_uniform(numpy.bincount(arms[:, arm, place], minlength=20))
    assert_uniform(numpy.bincount(goal_arm, minlength=3))
    # Where in the prompt each edge of each arm is written, and the goal arm's first edge above all.
    edges = batch.prompts[:, :-3].numpy().reshape(len(batch), 6, 3)
    for arm in range(3):
        for place in range(1, 3):
            where = (edges[:, :, 1] == arms[:, arm, place, None]).argmax(axis=1)
            assert_uniform(numpy.bincount(where, minlength=6))
    where = (edges[:, :, 1] == batch.answers[:, 1].numpy()[:, None]).argmax(axis=1)
    assert_uniform(numpy.bincount(where * 3 + goal_arm, minlength=18))


def test_all_goals_come_in_random_order_and_facts_hide_the_goal() -> None:
    task = PathStar(degree=3, length=2, nodes=10, goals="all")
    batch = task.sample(30_000, seeds.stream("order of goals"))
    goal_arm = batch.facts["goal_arm"].numpy().reshape(-1, 3)
    _, counts = numpy.unique(goal_arm @ [9, 3, 1], return_counts=True)
    assert len(counts) == 6
    assert_uniform(counts)
    assert_uniform(numpy.bincount(task.facts_of(batch)["goal_arm"].numpy(), minlength=3))


# Prompts that hold no path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:-1], "the prompt has 26 tokens, but must have 27"),
        (lambda p: [*p[:2], 3, *p[3:]], "the prompt's delimiters are not those of"),
        (lambda p: [51, *p[1:]], "token 51 stands where a node label from 0 to 49 must"),
        (lambda p: [*p[:-2], p[-3], p[-1]], "no path of 5 nodes leads from 32 to 32"),
        (lambda p: [*p[:-2], 6, p[-1]], "no path of 5 nodes leads from 32 to 6"),
        (lambda p: [*p[:-2], 0, p[-1]], "no path of 5 nodes leads from 32 to 0"),
    ],
)
def test_solve_refuses_a_malformed_prompt(change: Any, message: str) -> None:
    prompt, _ = G25.read_line(SAMPLE_LINE)
    with pytest.raises(RequestError, match=r"^path-star: ") as caught:
        G25.solve(change(prompt))
    assert message in str(caught.value)


# Lines


def test_the_published_line_reads() -> None:
    prompt, answer = G25.read_line(SAMPLE_LINE)
    assert prompt[:6] == [32, 3, 50, 16, 12, 50]
    assert prompt[-4:] == [52, 32, 12, 51]
    assert answer == [32, 34, 6, 16, 12]
    assert G25.write_line(prompt, answer) == SAMPLE_LINE
    assert G25.read_line(SAMPLE_LINE + "\r\n") == (prompt, answer)


def test_any_answer_of_a_model_can_be_written() -> None:
    prompt, _ = G25.read_line(SAMPLE_LINE)
    assert G25.write_line(prompt, [32, 50, 53, 99]).endswith("/32,12=32,|,$,<99>")


STAR = "1,2|2,3|1,4|4,5/1,3="
LINE_ERRORS = [
    ("1,2|2,3|1,4|4,5 1,3=1,2,3", "there is no '/' after the edges"),
    ("1,2|2,3|1,4|4,5/1,3", "there is no '=' after the start and the goal"),
    ("1,2|2;3|1,4|4,5/1,3=1,2,3", "edge 2 is '2;3', but an edge is two labels joined by a comma"),
    ("1,2|2,|1,4|4,5/1,3=1,2,3", "edge 2 is '2,', but an edge is two labels joined by a comma"),
    ("1,2|2,3,4|1,4|4,5/1,3=1,2,3", "edge 2 is '2,3,4', but"),
    ("1,2|2,3|1,4|/1,3=1,2,3", "edge 4 is '', but"),
    ("1,2|2,x|1,4|4,5/1,3=1,2,3", "label 'x' in edge 2 is not a whole number written in plain digits"),
    ("1,2|2,03|1,4|4,5/1,3=1,2,3", "label '03' in edge 2 is not a whole number"),
    ("1,2|2,-3|1,4|4,5/1,3=1,2,3", "label '-3' in edge 2 is not a whole number"),
    ("1,2|2,٣|1,4|4,5/1,3=1,2,3", "label '٣' in edge 2 is not a whole number"),
    ("1,2|2,9|1,4|4,5/1,9=1,2,9", "label '9' in edge 2 is out of range: nodes=9 allows 0 to 8"),
    ("1,2|2,3|1,4|4,5/1=1,2,3", "'1' stands between '/' and '=', where start and goal joined by a comma must"),
    ("1,2|2,3|1,4|4,5/1,a=1,2,3", "label 'a' in the query between '/' and '=' is not a whole number"),
    ("1,2|2,3|1,4|4,5/1,3=1,2,", "label '' in the answer is not a whole number"),
    ("1,2|2,3|1,4|4,5/1,3=1,12,3", "label '12' in the answer is out of range: nodes=9 allows 0 to 8"),
    ("1,2|2,3|1,4/1,3=1,2,3", "there are 3 edges, but degree=2,length=3 has 4"),
    ("1,2|2,3|3,6|1,4|4,5|5,7/1,6=", "has 4; the line looks like degree=2,length=4"),
    ("1,2|1,3|1,4|1,5/1,3=1,3", "the centre 1 has 4; the line looks like degree=4,length=2"),
    ("1,2|2,3|1,4|4,3/1,3=1,2,3", "the edges do not form 2 arms of 3 nodes: node 3 is entered by 2 edges"),
    ("1,2|1,2|1,4|4,5/1,5=1,4,5", "node 2 is entered by 2 edges"),
    ("1,2|2,3|3,4|4,1/1,3=1,2,3", "they go round in a circle"),
    ("1,2|2,3|6,4|4,5/1,3=1,2,3", "nodes 1 and 6 are both entered by no edge, but only the centre may be"),
    ("1,2|2,3|2,4|1,5/1,3=1,2,3", "node 2 is left by 2 edges, but only the centre 1 may branch"),
    ("1,2|2,3|3,4|1,5/1,4=1,2,3", "the arm that ends in 4 has 4 nodes"),
    ("1,2|2,3|4,5|5,4/1,3=1,2,3", "the centre 1 has 1"),
    ("1,2|2,3|1,4|4,5/2,3=1,2,3", "the start 2 is not the centre of the graph, 1"),
    ("1,2|2,3|1,4|4,5/7,3=1,2,3", "the start 7 is not the centre of the graph, 1"),
    ("1,2|2,3|1,4|4,5/1,2=1,2,3", "the goal 2 is not the end of an arm; the arms end in 3, 5"),
    (STAR + "1,4,3", "node 2 of the answer is 4, but the path from 1 to 3 has 2 there"),
    (STAR + "1,2,5", "node 3 of the answer is 5, but the path from 1 to 3 has 3 there"),
    (STAR + "2,2,3", "node 1 of the answer is 2, but the path from 1 to 3 has 1 there"),
    (STAR + "1,2", "the answer has 2 nodes, but the path from 1 to 3 has 3"),
    (STAR + "1,2,3,3", "the answer has 4 nodes, but the path from 1 to 3 has 3"),
    ("", "there is no '/' after the edges"),
    ("/=", "edge 1 is '', but an edge is two labels"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), LINE_ERRORS)
def test_a_bad_line_says_why(line: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        PathStar(degree=2, length=3, nodes=9).read_line(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_huge_bad_line_is_shown_cut() -> None:
    with pytest.raises(RequestError) as caught:
        G25.read_line("7" * 10_000 + ",1/1,2=")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("length", "line"), [(2, "5,5/5,5=5,5"), (3, "1,2|2,1/1,1=1,2,1")])
def test_one_arm_may_not_return_to_its_start(length: int, line: str) -> None:
    with pytest.raises(RequestError, match="they go round in a circle"):
        PathStar(degree=1, length=length, nodes=9).read_line(line)


@given(st.text(alphabet="0123456789,|/= x", max_size=60))
def test_no_text_escapes_the_reader(line: str) -> None:
    task = PathStar(degree=1, length=2, nodes=9)
    try:
        prompt, answer = task.read_line(line)
    except RequestError:
        return
    assert task.write_line(prompt, answer) == line.strip()


@given(st.integers(0, 2**32), st.data())
def test_a_changed_line_is_refused_or_still_right(seed: int, data: st.DataObject) -> None:
    task = PathStar(degree=2, length=3, nodes=10)
    batch = task.sample(1, seeds.stream("test", seed))
    line = task.write_line(batch.prompts[0].tolist(), batch.answers[0].tolist())
    place = data.draw(st.integers(0, len(line) - 1))
    changed = line[:place] + data.draw(st.sampled_from("0123456789,|/=")) + line[place + 1 :]
    try:
        prompt, answer = task.read_line(changed)
    except RequestError:
        return
    assert not answer or task.verify(prompt, answer)
