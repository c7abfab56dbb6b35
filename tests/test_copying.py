"""Copying: the control that asks for nothing."""

from __future__ import annotations

import pytest

from foresee.core.errors import RequestError
from foresee.tasks.copying import Copying

TASK = Copying(length=3, symbols=5)


def test_the_answer_is_the_prompt() -> None:
    assert TASK.read_line("4,0,4=4,0,4") == ([4, 0, 4, 5], [4, 0, 4])
    assert TASK.solve([4, 0, 4, 5]) == [4, 0, 4]
    assert (TASK.chance, TASK.plateau) == (1.0, None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("4,0,4", "there is no '='"),
        ("4,0=", "the prompt holds 2 numbers, but must hold 3"),
        ("4,0,5=", "'5' in the prompt is out of range: it must be from 0 to 4"),
        ("4,0,04=", "'04' in the prompt is not a whole number written in plain digits"),
        ("4,0,4=4,1,4", "symbol 2 of the answer is 1, but the right answer has 0 there"),
        ("4,0,4=4,0", "the answer holds 2 symbols, but must hold 3"),
    ],
)
def test_bad_lines_say_why(line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        TASK.read_line(line)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(RequestError, match="copying: length=0, but it must be from 1 to 1000"):
        Copying(length=0)
