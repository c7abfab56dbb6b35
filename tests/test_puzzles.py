"""Countdown, minimal planning, 3-SAT and Sudoku: every solution is right and nothing else, and bad lines say why."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.tasks.countdown import Countdown
from foresee.tasks.minimal_planning import MinimalPlanning
from foresee.tasks.sudoku import Sudoku
from foresee.tasks.three_sat import ThreeSat

CLAUSES, PATHS = "1,-2,3/-1,2,4/2,3,-4=", "1,2/4,2/2,5/2,3|1,3="


# Countdown


def test_any_solution_is_right_and_division_by_nothing_is_none() -> None:
    task = Countdown(numbers=3, largest=20, results=50)
    for answer in ("19-13=6,10+6=16", "19-13=6,6+10=16", "19+10=29,29-13=16"):
        assert task.verify(*task.read_line(f"19,13,10/16={answer}"))
    prompt, _ = task.read_line("3,3,5/0=")
    slash, minus, equals = (task.vocab.token(symbol) for symbol in "/-=")
    assert not task.verify(prompt, [3, minus, 3, equals, 0, 5, slash, 0, equals, 0])
    assert task.verify(prompt, [3, minus, 3, equals, 0, 0, slash, 5, equals, 0])


@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 30))
def test_every_drawn_problem_is_right_and_can_be_solved(numbers: int, largest: int, more: int) -> None:
    task = Countdown(numbers=numbers, largest=largest, results=largest + more)
    for prompt, answer in task.sample(5, seeds.stream("countdown", numbers, largest, more)).pairs():
        assert task.verify(prompt, answer)
        assert task.verify(prompt, task.solve(prompt))


def test_the_order_of_numbers_and_of_clauses_is_not_part_of_the_problem() -> None:
    for task, parts in (
        (Countdown(numbers=3, largest=20, results=50), [slice(0, 1), slice(1, 2), slice(2, 3)]),
        (ThreeSat(variables=4, clauses=3), [slice(0, 3), slice(4, 7), slice(8, 11)]),
    ):
        batch = task.sample(1, seeds.stream("order"))
        same = batch.rows(batch.prompt_len.new_zeros(6))
        for row, order in enumerate(permutations(parts)):
            for here, there in zip(parts, order, strict=True):
                same.tokens[row, here] = batch.tokens[0, there]
        assert len(set(task.identity(same).tolist())) == 1


# Minimal planning


@given(st.integers(1, 6), st.integers(0, 40))
def test_two_paths_cross_where_the_facts_say(steps: int, more: int) -> None:
    task = MinimalPlanning(steps=steps, nodes=2 * steps + 1 + more)
    batch = task.sample(20, seeds.stream("crossing", steps, more))
    for (row, answer), distance, branch in zip(
        batch.pairs(), batch.facts["distance"].tolist(), batch.facts["branch"].tolist(), strict=True
    ):
        sources = row[0 : 3 * task.edges : 3]
        assert sources.count(answer[branch - 1]) == 2
        assert len(set(sources)) == task.edges - 1
        assert answer[branch:].count(answer[-1]) == 1
        assert branch == 3 * (steps - distance) + 1
        assert task.write_line(row, answer).count("/") == task.edges + steps - 2


def test_the_path_and_its_reverse_are_right_and_distances_are_uniform() -> None:
    task = MinimalPlanning(steps=2, nodes=10)
    prompt, answer = task.read_line(PATHS + "1,2/2,3")
    assert task.solve(prompt) == answer
    assert task.verify(prompt, answer[::-1])
    assert task.read_line(PATHS + "3,2/2,1")[1] == answer[::-1]
    assert not task.verify(prompt, [1, 2, task.vocab.token("/"), 2, 5])
    task = MinimalPlanning(steps=4, nodes=12)
    batch = task.sample(8000, seeds.stream("uniform"))
    shares = batch.facts["distance"].bincount(minlength=5)[1:] / 8000
    assert (shares - 0.25).abs().max() < 0.02
    # At distance 1 the way on is the goal itself.
    named = (batch.answers.gather(1, batch.facts["branch"][:, None])[:, 0] == batch.prompts[:, -2]).float().mean()
    assert task.chance == pytest.approx((1 + named.item()) / 2, abs=0.02)
    assert task.plateau == pytest.approx((1 - named.item()) * math.log(2) / 11, rel=0.05)


# 3-SAT


def test_every_satisfying_assignment_is_right_and_no_other() -> None:
    task = ThreeSat(variables=4, clauses=3)
    prompt, _ = task.read_line(CLAUSES)
    clauses = [(1, -2, 3), (-1, 2, 4), (2, 3, -4)]
    accepted = 0
    for signs in product((1, -1), repeat=4):
        chosen = [sign * variable for variable, sign in enumerate(signs, 1)]
        right = all(any(literal in chosen for literal in clause) for clause in clauses)
        assert task.verify(prompt, task.vocab.encode(map(str, chosen))) == right
        accepted += right
    assert 1 < accepted < 16


def test_clauses_are_different_and_uniform_among_those_that_hold() -> None:
    task = ThreeSat(variables=3, clauses=7)  # all that one assignment satisfies
    for prompt, answer in task.sample(50, seeds.stream("clauses")).pairs():
        clauses = {tuple(prompt[at : at + 3]) for at in range(0, 28, 4)}
        assert len(clauses) == 7
        assert tuple(literal ^ 1 for literal in answer) not in clauses
        assert task.solve(prompt) == answer


# Sudoku


def solutions(puzzle: list[int]) -> int:
    """How many fillings a 4x4 puzzle has, by trying them all in order of cells."""
    if 0 not in puzzle:
        return 1
    cell, found = puzzle.index(0), 0
    row, column = divmod(cell, 4)
    for digit in range(1, 5):
        clash = any(
            puzzle[other] == digit
            and (other // 4 == row or other % 4 == column or (other // 8, other % 4 // 2) == (row // 2, column // 2))
            for other in range(16)
        )
        if not clash:
            found += solutions([*puzzle[:cell], digit, *puzzle[cell + 1 :]])
    return found


def test_every_puzzle_has_exactly_one_solution() -> None:
    batch = Sudoku(box=2, clues=4).sample(150, seeds.stream("unique"))
    assert int((batch.prompts[:, :-1] > 0).sum(1).min()) == 4
    for puzzle in batch.prompts[:, :-1].tolist():
        assert solutions(puzzle) == 1
    large = Sudoku(box=3, clues=26)
    for prompt, answer in large.sample(4, seeds.stream("nine")).pairs():
        assert large.solve(prompt) == answer


@pytest.mark.parametrize("box", [2, 3])
def test_grids_differ_in_every_way(box: int) -> None:
    cells = Sudoku(box=box, clues=2 * box).sample(2000, seeds.stream("grids")).answers
    for place in (0, box**2 - 1, box**4 // 2):
        shares = cells[:, place].bincount(minlength=box**2 + 1)[1:] / 2000
        assert (shares - 1 / box**2).abs().max() < 0.05
    if box == 2:
        assert len(set(map(tuple, cells.tolist()))) > 250  # of 288


def test_renamed_digits_and_transposed_grids_are_the_same_problem() -> None:
    task = Sudoku(box=2, clues=4)
    batch = task.sample(100, seeds.stream("same"))
    puzzle = batch.prompts[:, :16]
    renamed = torch.tensor([0, 3, 1, 4, 2])[puzzle]
    turned = puzzle.reshape(-1, 4, 4).transpose(1, 2).reshape(-1, 16)
    identity = task.identity(batch)
    for other in (renamed, turned):
        same = Batch.of(torch.cat([other, batch.tokens[:, 16:]], 1), 17, 16)
        assert numpy.array_equal(task.identity(same), identity)
    assert len(set(identity.tolist())) > 90
