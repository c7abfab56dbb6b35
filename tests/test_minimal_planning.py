"""Minimal planning: the crossing, the distance, and what is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.tasks.minimal_planning import MinimalPlanning

TASK = MinimalPlanning(steps=2, nodes=10)
LINE = "1,2/4,2/2,5/2,3|1,3=1,2/2,3"


@given(st.integers(1, 6), st.integers(0, 40))
def test_two_paths_cross_where_the_facts_say(steps: int, more: int) -> None:
    task = MinimalPlanning(steps=steps, nodes=2 * steps + 1 + more)
    batch = task.sample(20, seeds.stream("crossing", steps, more))
    for row, answer, distance, branch in zip(
        batch.prompts.tolist(), batch.answers.tolist(), batch.facts["distance"].tolist(),
        batch.facts["branch"].tolist(), strict=True,
    ):  # fmt: skip
        sources = row[0 : 3 * task.edges : 3]
        crossing = answer[branch - 1]
        assert sources.count(crossing) == 2
        assert len(set(sources)) == task.edges - 1
        assert answer[branch:].count(answer[-1]) == 1
        assert branch == 3 * (steps - distance) + 1
        assert task.write_line(row, answer).count("/") == task.edges + steps - 2


def test_distances_are_uniform_and_wrong_ways_exist() -> None:
    batch = MinimalPlanning(steps=4, nodes=12).sample(8000, seeds.stream("uniform"))
    shares = batch.facts["distance"].bincount(minlength=5)[1:] / 8000
    assert (shares - 0.25).abs().max() < 0.02


def test_the_path_and_its_reverse_are_right() -> None:
    prompt, answer = TASK.read_line(LINE)
    assert TASK.solve(prompt) == answer
    assert TASK.verify(prompt, answer[::-1])
    assert TASK.read_line("1,2/4,2/2,5/2,3|1,3=3,2/2,1")[1] == answer[::-1]
    assert not TASK.verify(prompt, [1, 2, TASK.vocab.token("/"), 2, 5])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2/4,2/2,5/2,3=", "there is no '\\|' after the edges"),
        ("1,2/4,2/2,5|1,3=", "the graph holds 3 edges, but must hold 4"),
        ("1,2/4,2/2,5/2,10|1,3=", "'10' in the graph is out of range"),
        ("1,2/4,2/2,5/2|1,3=", "'2' in the graph is not two labels"),
        ("1,2/4,2/2,5/2,3|1,3/4,5=", "the query holds 2 pairs of nodes, but must hold 1"),
        ("1,2/4,2/2,5/2,3|=", "the query holds 0 pairs of nodes, but must hold 1"),
        ("1,2/4,2/2,5/2,3|1,4=", "no path of 2 edges leads from 1 to 4"),
        ("1,2/4,7/7,5/2,3|1,3=", "do not form two paths of 2 edges that cross at one node"),
        ("1,2/4,6/6,3/2,3|1,3=", "do not form two paths of 2 edges that cross at one node before their ends"),
        (LINE.replace("=1,2/2,3", "=1,2/2,5"), "the answer is '1,2/2,5', but the path is 1,2/2,3"),
    ],
)
def test_bad_lines_say_why(line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        TASK.read_line(line)


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(RequestError, match="nodes=10, but it must be from 11"):
        MinimalPlanning(steps=5, nodes=10)
