"""3-SAT: what is drawn can be satisfied, and every satisfying assignment is right."""

from __future__ import annotations

from itertools import product

import pytest

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.tasks.three_sat import ThreeSat

TASK = ThreeSat(variables=4, clauses=3)
LINE = "1,-2,3/-1,2,4/2,3,-4="


def test_every_satisfying_assignment_is_right_and_no_other() -> None:
    prompt, _ = TASK.read_line(LINE)
    clauses = [(1, -2, 3), (-1, 2, 4), (2, 3, -4)]
    accepted = 0
    for signs in product((1, -1), repeat=4):
        chosen = [sign * variable for variable, sign in enumerate(signs, 1)]
        right = all(any(literal in chosen for literal in clause) for clause in clauses)
        assert TASK.verify(prompt, TASK.vocab.encode(map(str, chosen))) == right
        accepted += right
    assert 1 < accepted < 16


def test_clauses_are_different_and_uniform_among_those_that_hold() -> None:
    task = ThreeSat(variables=3, clauses=7)  # all that one assignment satisfies
    batch = task.sample(50, seeds.stream("clauses"))
    for prompt, answer in zip(batch.prompts.tolist(), batch.answers.tolist(), strict=True):
        clauses = {tuple(prompt[at : at + 3]) for at in range(0, 28, 4)}
        assert len(clauses) == 7
        assert tuple(literal ^ 1 for literal in answer) not in clauses
        assert task.solve(prompt) == answer


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,-2,3/-1,2,4=", "the problem holds 2 clauses, but must hold 3"),
        ("1,-2,3/-1,2,4/2,3,-5=", "'5' in clause 3 is out of range"),
        ("1,-2,3/-1,2,4/2,3,--4=", "'-4' in clause 3 is not a whole number"),
        ("1,-2,3/-1,2,4/2,-2,4=", "clause 3 is not three different variables"),
        ("1,-2,3/-1,2,4/2,4=", "clause 3 is not three different variables"),
        (LINE + "1,-2,3", "not one literal for each of the variables 1 to 4"),
        (LINE + "1,-2,-3,-4", "the answer does not satisfy clause 2, -1,2,4"),
    ],
)
def test_bad_lines_say_why(line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        TASK.read_line(line)


def test_what_cannot_be_satisfied_is_refused() -> None:
    task = ThreeSat(variables=3, clauses=7)
    clauses = list(product((0, 1), (2, 3), (4, 5)))
    slash, equals = task.vocab.token("/"), task.vocab.token("=")
    whole = ThreeSat(variables=4, clauses=8)
    prompt = [token for clause in clauses for token in (*clause, whole.vocab.token("/"))]
    prompt[-1] = whole.vocab.token("=")
    with pytest.raises(RequestError, match="no assignment satisfies all clauses"):
        whole.solve(prompt)
    with pytest.raises(RequestError, match="a prompt is 7 clauses"):
        task.solve([0, 2, 4, slash, 1, 3, 5, equals])
    with pytest.raises(RequestError, match="clauses=8, but it must be from 1 to 7"):
        ThreeSat(variables=3, clauses=8)


def test_the_order_of_clauses_is_not_part_of_the_problem() -> None:
    batch = TASK.sample(1, seeds.stream("order"))
    twice = batch.rows(batch.prompt_len.new_zeros(2))
    first, second = twice.tokens[1, 0:3].clone(), twice.tokens[1, 4:7].clone()
    twice.tokens[1, 0:3], twice.tokens[1, 4:7] = second, first
    assert len(set(TASK.identity(twice).tolist())) == 1
