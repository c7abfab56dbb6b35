"""Countdown: every solution is right, and nothing else is."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.tasks.countdown import Countdown

TASK = Countdown(numbers=3, largest=20, results=50)
PROMPT = TASK.read_line("19,13,10/16=")[0]


@pytest.mark.parametrize("answer", ["19-13=6,10+6=16", "19-13=6,6+10=16", "10-13=0,0+0=0", "19+10=29,29-13=16"])
def test_any_solution_is_right(answer: str) -> None:
    right = answer != "10-13=0,0+0=0"
    if right:
        assert TASK.verify(*TASK.read_line(f"19,13,10/16={answer}"))
    else:
        with pytest.raises(RequestError, match="not true"):
            TASK.read_line(f"19,13,10/16={answer}")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("19,13,10=", "there is no '/' before the target"),
        ("19,13/16=", "the problem holds 2 numbers, but must hold 3"),
        ("19,13,10/60=", "'60' in the target is out of range"),
        ("19,13,10/16=19-13=6", "the answer has 5 symbols, but 3 numbers take 2 equations"),
        ("19,13,10/16=19-13=6,19-6=13", "'19-6=13' uses a number that is not, or no longer, at hand"),
        ("19,13,10/16=19-13=7,10+7=17", "'19-13=7' is not true"),
        ("19,13,10/16=13-19=0,10+0=10", "'13-19=0' is not true"),
        ("19,13,10/16=19-13=6,10-6=4", "the equations leave 4, but the target is 16"),
        ("19,13,10/16=19-13,10+6=16", "'19-13' is not an equation"),
        ("19,13,10/16=19/13=1,10+6=16", "'19/13=1' is not true"),
    ],
)
def test_bad_lines_say_why(line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        TASK.read_line(line)


def test_prompts_without_a_solution_are_refused() -> None:
    with pytest.raises(RequestError, match="no arithmetic up to 50 on 1,1,1 leaves 50"):
        TASK.solve(TASK.read_line("1,1,1/50=")[0])


def test_division_by_nothing_is_no_division() -> None:
    prompt, _ = TASK.read_line("3,3,5/0=")
    slash, minus, equals = (TASK.vocab.token(symbol) for symbol in "/-=")
    assert not TASK.verify(prompt, [3, minus, 3, equals, 0, 5, slash, 0, equals, 0])
    assert TASK.verify(prompt, [3, minus, 3, equals, 0, 0, slash, 5, equals, 0])


@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 30))
def test_every_drawn_problem_is_right_and_can_be_solved(numbers: int, largest: int, more: int) -> None:
    task = Countdown(numbers=numbers, largest=largest, results=largest + more)
    batch = task.sample(5, seeds.stream("countdown", numbers, largest, more))
    for prompt, answer in zip(batch.prompts.tolist(), batch.answers.tolist(), strict=True):
        assert task.verify(prompt, answer)
        assert task.verify(prompt, task.solve(prompt))


def test_the_order_of_the_numbers_is_not_part_of_the_problem() -> None:
    batch = TASK.sample(1, seeds.stream("order"))
    orders = list(permutations(range(3)))
    same = batch.rows(batch.prompt_len.new_zeros(len(orders)))
    for row, order in enumerate(orders):
        same.tokens[row, :3] = same.tokens[row, list(order)]
    assert len(set(TASK.identity(same).tolist())) == 1
