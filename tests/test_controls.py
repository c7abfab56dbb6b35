"""The controls and arithmetic: known answers, what makes two problems the same, and statistics of the noisy chain."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.spec import resolve
from foresee.tasks import tasks
from foresee.tasks.arithmetic import Addition, DigitOrder, Multiplication
from foresee.tasks.controls import Copying, NoisyChain, Sorting

CHAIN = NoisyChain(length=12, states=7, noise=0.1, key=9)
COPYING, SORTING = "copying:length=3,symbols=5", "sorting:length=4,symbols=6"
PLAIN, REVERSED = Addition(digits=3), Addition(digits=3, order="reversed")


@pytest.mark.parametrize(
    ("spec", "line", "prompt", "answer"),
    [
        (COPYING, "4,0,4=4,0,4", [4, 0, 4, 5], [4, 0, 4]),
        (SORTING, "5,0,3,1=0,1,3,5", [5, 0, 3, 1, 6], [0, 1, 3, 5]),
        ("noisy-chain:length=5,states=4,noise=0,key=2", "0,1,2=3,0,1,2,3", [0, 1, 2, 4], [3, 0, 1, 2, 3]),
        ("addition", "057+986=1043", [0, 5, 7, 10, 9, 8, 6, 11], [1, 0, 4, 3]),
        ("addition:digits=3,order=reversed", "057+986=3401", [0, 5, 7, 10, 9, 8, 6, 11], [3, 4, 0, 1]),
        ("multiplication", "12*34=0408", [1, 2, 10, 3, 4, 11], [0, 4, 0, 8]),
        ("multiplication:order=reversed", "12*34=8040", [1, 2, 10, 3, 4, 11], [8, 0, 4, 0]),
    ],
)
def test_known_answers(spec: str, line: str, prompt: list[int], answer: list[int]) -> None:
    task = resolve(tasks, spec).build()
    assert task.read_line(line) == (prompt, answer)
    assert task.solve(prompt) == answer


def test_the_order_of_numbers_is_part_of_a_problem_in_copying_alone() -> None:
    small = Copying(length=2, symbols=2)
    assert len(set(small.identity(small.sample(200, seeds.stream("copying"))).tolist())) == 4
    sorting = Sorting(length=4, symbols=6)
    batch = sorting.sample(500, seeds.stream("sorting"))
    assert (batch.answers.diff(dim=1) > 0).all()
    assert len(set(sorting.identity(batch).tolist())) == 15  # four of six numbers
    digits = Addition(digits=1)
    assert len(set(digits.identity(digits.sample(5000, seeds.stream("pairs"))).tolist())) == 55


# Arithmetic


@given(st.integers(1, 17), st.sampled_from(["plain", "reversed"]), st.data())
def test_by_hand_is_by_machine(digits: int, order: DigitOrder, data: st.DataObject) -> None:
    adding, multiplying = Addition(digits=digits, order=order), Multiplication(digits=min(digits, 9), order=order)
    for task, sign in ((adding, "+"), (multiplying, "*")):
        a, b = (data.draw(st.integers(0, 10**task.digits - 1)) for _ in range(2))
        prompt, _ = task.read_line(f"{a:0{task.digits}d}{sign}{b:0{task.digits}d}=")
        result = task.write_answer(task.solve(prompt))
        assert int(result if order == "plain" else result[::-1]) == (a + b if sign == "+" else a * b)
        ((prompt, answer),) = task.sample(1, seeds.stream("drawn", digits)).pairs()
        assert task.solve(prompt) == answer


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
    prompt, _ = PLAIN.read_line(line)
    batch = Batch.of(torch.tensor([prompt]), len(prompt), 0)
    assert PLAIN.facts_of(batch)["distance"].tolist() == [distance]


def test_what_may_change_within_the_distance_changes_the_digit() -> None:
    """Against a definition by trial: with the places to the right of a digit cut off after k, both carries are
    possible until k reaches what the digit needs."""
    batch = PLAIN.sample(300, seeds.stream("carries"))
    for row, distance in zip(batch.prompts.tolist(), batch.facts["distance"].tolist(), strict=True):
        sums = [a + b for a, b in zip(row[:3][::-1], row[4:7][::-1], strict=True)]
        needed = []
        for place in range(1, 4):
            for depth in range(1, place + 1):
                carries = set()
                for carry in [0] if depth == place else [0, 1]:
                    for total in sums[place - depth : place]:
                        carry = (total + carry) // 10
                    carries.add(carry)
                if len(carries) == 1:
                    needed.append(depth)
                    break
        assert distance == max(needed)


# The noisy chain: its steps slip as often as they should, and nothing but the whole prompt says where


def test_slips_are_as_frequent_as_asked_independent_and_go_anywhere_else() -> None:
    batch = CHAIN.sample(20_000, seeds.stream("slips"))
    walk = torch.cat([batch.prompts[:, [CHAIN.key]], batch.answers], 1)
    steps = walk.diff(dim=1) % 7
    moved = steps.flatten().bincount(minlength=7) / (20_000 * 12)
    assert abs(float(1 - moved[1]) - 0.1) < 0.003
    assert (moved[[0, 2, 3, 4, 5, 6]] - 0.1 / 6).abs().max() < 0.002
    assert abs(float((steps == 1).all(1).double().mean()) - 0.9**12) < 0.01
    assert CHAIN.plateau == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1 / 6))
    assert math.isclose(CHAIN.chance, 0.9**12)
    sure, copying = NoisyChain(length=5, states=4, noise=0.0, key=2), Copying(length=3, symbols=5)
    assert (sure.chance, sure.plateau) == (1.0, 0.0)
    assert (copying.chance, copying.plateau) == (1.0, None)
