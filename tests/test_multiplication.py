"""Multiplication by hand and by machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.tasks.multiplication import Multiplication


@given(st.integers(1, 9), st.data())
def test_by_hand_is_by_machine(digits: int, data: st.DataObject) -> None:
    task = Multiplication(digits=digits)
    a, b = (data.draw(st.integers(0, 10**digits - 1)) for _ in range(2))
    prompt, _ = task.read_line(f"{a:0{digits}d}*{b:0{digits}d}=")
    assert int(task.write_answer(task.solve(prompt))) == a * b


def test_both_orders_and_the_largest_numbers() -> None:
    assert Multiplication(digits=2).read_line("12*34=0408")[1] == [0, 4, 0, 8]
    assert Multiplication(digits=2, order="reversed").read_line("12*34=8040")[1] == [8, 0, 4, 0]
    task = Multiplication(digits=9)
    batch = task.sample(50, seeds.stream("large"))
    assert all(
        task.solve(prompt) == answer
        for prompt, answer in zip(batch.prompts.tolist(), batch.answers.tolist(), strict=True)
    )
    with pytest.raises(RequestError, match="symbol 2 of the answer is 5"):
        Multiplication(digits=2).read_line("12*34=0508")
