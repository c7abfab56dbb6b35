"""Addition: both orders of the sum's digits, and how far carries reach."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.tasks.addition import Addition
from foresee.tasks.arithmetic import DigitOrder

PLAIN, REVERSED = Addition(digits=3), Addition(digits=3, order="reversed")


def test_both_orders() -> None:
    assert PLAIN.read_line("057+986=1043") == ([0, 5, 7, 10, 9, 8, 6, 11], [1, 0, 4, 3])
    assert REVERSED.read_line("057+986=3401") == ([0, 5, 7, 10, 9, 8, 6, 11], [3, 4, 0, 1])


@given(st.integers(1, 17), st.sampled_from(["plain", "reversed"]), st.data())
def test_by_hand_is_by_machine(digits: int, order: DigitOrder, data: st.DataObject) -> None:
    task = Addition(digits=digits, order=order)
    a, b = (data.draw(st.integers(0, 10**digits - 1)) for _ in range(2))
    prompt, _ = task.read_line(f"{a:0{digits}d}+{b:0{digits}d}=")
    total = task.write_answer(task.solve(prompt))
    assert int(total if order == "plain" else total[::-1]) == a + b


@pytest.mark.parametrize(
    ("line", "distance"),
    [
        ("123+111=", 1),  # no digit needs more than its right neighbour
        ("123+170=", 2),  # the tens add up to 9, so the hundreds need the ones
        ("155+345=", 2),
        ("123+876=", 3),  # a run of nines down to the ones: the thousands need them all
        ("999+000=", 3),
        ("900+055=", 2),  # a run that ends at once: the thousands need the hundreds and the tens
    ],
)
def test_distance_is_how_far_a_carry_reaches(line: str, distance: int) -> None:
    tokens = numpy.array([PLAIN.read_line(line)[0]])
    assert PLAIN.facts_in(tokens)["distance"].tolist() == [distance]


def test_what_may_change_within_the_distance_changes_the_digit() -> None:
    """Against a definition by trial: with the places to the right of a digit cut off after k, both carries are
    possible until k reaches what the digit needs."""
    batch = PLAIN.sample(300, seeds.stream("carries"))
    for row, distance in zip(batch.prompts.tolist(), batch.facts["distance"].tolist(), strict=True):
        sums = [a + b for a, b in zip(row[:3][::-1], row[4:7][::-1], strict=True)]
        needed = []
        for place in range(1, 4):
            for depth in range(1, place + 1):
                unknown = [0] if depth == place else [0, 1]
                carries = set()
                for carry in unknown:
                    for total in sums[place - depth : place]:
                        carry = (total + carry) // 10
                    carries.add(carry)
                if len(carries) == 1:
                    needed.append(depth)
                    break
        assert distance == max(needed)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("057+986", "there is no '='"),
        ("057-986=", "there is no '\\+' before '='"),
        ("57+986=", "the first number '57' holds 2 digits, but must hold 3"),
        ("057+98x=", "the second number '98x' holds something other than the digits"),
        ("057+986=1044", "symbol 4 of the answer is 4, but 057\\+986 \\(order=plain\\) has 3 there"),
    ],
)
def test_bad_lines_say_why(line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        PLAIN.read_line(line)


def test_the_order_of_the_numbers_is_not_part_of_the_problem() -> None:
    task = Addition(digits=1)
    assert len(set(task.identity(task.sample(5000, seeds.stream("pairs"))).tolist())) == 55
    with pytest.raises(RequestError, match="digits=18, but it must be from 1 to 17"):
        Addition(digits=18)
