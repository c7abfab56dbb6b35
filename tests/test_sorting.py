"""Sorting: a control without a decision."""

from __future__ import annotations

import pytest

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.tasks.sorting import Sorting

TASK = Sorting(length=4, symbols=6)


def test_the_numbers_ascend() -> None:
    assert TASK.read_line("5,0,3,1=0,1,3,5") == ([5, 0, 3, 1, 6], [0, 1, 3, 5])
    batch = TASK.sample(200, seeds.stream("sorting"))
    assert (batch.answers.diff(dim=1) > 0).all()


def test_the_order_of_the_prompt_is_not_part_of_the_problem() -> None:
    batch = TASK.sample(500, seeds.stream("sorting"))
    assert len(set(TASK.identity(batch).tolist())) == 15  # four of six numbers


def test_numbers_must_be_different() -> None:
    with pytest.raises(RequestError, match="'3' is in the prompt twice"):
        TASK.read_line("5,3,3,1=")
    with pytest.raises(RequestError, match="length=7, but it must be from 1 to 6"):
        Sorting(length=7, symbols=6)
