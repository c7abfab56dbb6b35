"""Countdown, minimal planning, 3-SAT and Sudoku: every solution is right and nothing else, and bad lines say why."""

from __future__ import annotations

from itertools import permutations, product

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
from foresee.tasks.countdown import Countdown
from foresee.tasks.minimal_planning import MinimalPlanning
from foresee.tasks.sudoku import Sudoku
from foresee.tasks.three_sat import ThreeSat

COUNT, PLAN = "countdown:numbers=3,largest=20,results=50", "minimal-planning:steps=2,nodes=10"
SAT, GRID = "three-sat:variables=4,clauses=3", "sudoku:box=2,clues=4"
CLAUSES, PUZZLE, PATHS = "1,-2,3/-1,2,4/2,3,-4=", "1000003001000002=", "1,2/4,2/2,5/2,3|1,3="


@pytest.mark.parametrize(
    ("spec", "line", "reason"),
    [
        (COUNT, "19,13,10=", "a problem is 3 numbers, '/', the target and '='"),
        (COUNT, "19,13/16=", "a problem is 3 numbers"),
        (COUNT, "19,0,10/16=", "the numbers must be from 1 to 50"),
        (COUNT, "19,13,10/60=", "'60' in the prompt is out of range"),
        (COUNT, "19,13,10/16=19-13=6", "the answer has 5 symbols, but 3 numbers take 2 equations"),
        (COUNT, "19,13,10/16=19-13=6,19-6=13", "'19-6=13' uses a number that is not, or no longer, at hand"),
        (COUNT, "19,13,10/16=19-13=7,10+7=17", "'19-13=7' is not true"),
        (COUNT, "19,13,10/16=13-19=0,10+0=10", "'13-19=0' is not true"),
        (COUNT, "19,13,10/16=10-13=0,0+0=0", "'10-13=0' is not true"),
        (COUNT, "19,13,10/16=19-13=6,10-6=4", "the equations leave 4, but the target is 16"),
        (COUNT, "19,13,10/16=19-13,6+10+6=16", "is not an equation"),
        (COUNT, "19,13,10/16=19/13=1,10+6=16", "'19/13=1' is not true"),
        (PLAN, "1,2/4,2/2,5/2,3=", "there must be one '|' after the edges"),
        (PLAN, "1,2/4,2/2,5|1,3=", "the prompt holds 3 edges and 1 pairs of start and goal, but must hold 4 and 1"),
        (PLAN, "1,2/4,2/2,5/2,10|1,3=", "'10' in edge 4 is out of range"),
        (PLAN, "1,2/4,2/2,5/2|1,3=", "edge 4 is '2', but an edge is two labels joined by a comma"),
        (PLAN, "1,2/4,2/2,5/2,3|1,3/4,5=", "the prompt holds 4 edges and 2 pairs of start and goal"),
        (PLAN, "1,2/4,2/2,5/2,3|=", "edge 1 is '', but an edge is two labels"),
        (PLAN, "1,2/4,2/2,5/2,3|1,4=", "no path of 2 edges leads from 1 to 4"),
        (PLAN, "1,2/4,7/7,5/2,3|1,3=", "do not form two paths of 2 edges that cross at one node"),
        (PLAN, "1,2/4,6/6,3/2,3|1,3=", "do not form two paths of 2 edges that cross at one node before their ends"),
        (PLAN, PATHS + "1,2/2,5", "symbol 5 of the answer is 5, but a right answer has 3 there"),
        (SAT, "1,-2,3/-1,2,4=", "the problem holds 2 clauses, but must hold 3"),
        (SAT, "1,-2,3/-1,2,4/2,3,5=", "'5' in clause 3 is out of range"),
        (SAT, "1,-2,3/-1,2,4/2,3,--4=", "'--4' in clause 3 is not a whole number"),
        (SAT, "1,-2,3/-1,2,4/2,-2,4=", "clause 3 is not three different variables"),
        (SAT, "1,-2,3/-1,2,4/2,4=", "clause 3 is not three different variables"),
        (SAT, CLAUSES + "1,-2,3", "not one literal for each of the variables 1 to 4"),
        (SAT, CLAUSES + "1,-2,-3,-4", "the answer does not satisfy clause 2, -1,2,4"),
        (GRID, "100000300100000=", "the puzzle holds 15 cells, but must hold 16"),
        (GRID, "1000003001000005=", "'5' in the prompt is out of range: it must be from 0 to 4"),
        (GRID, "1001003001000002=", "digit 1 occurs twice in row 1"),
        (GRID, PUZZLE + "2431314213244213", "cell 1 of the answer is 2, but the puzzle gives 1 there"),
        (GRID, PUZZLE + "1234", "the answer has 4 cells, but the grid has 16"),
        (GRID, PUZZLE + "1111111111111111", "cell 7 of the answer is 1, but the puzzle gives 3 there"),
    ],
)
def test_bad_lines_say_why(spec: str, line: str, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        resolve(tasks, spec).build().read_line(line)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("minimal-planning:steps=5,nodes=10", "nodes=10, but it must be from 11"),
        ("three-sat:variables=3,clauses=8", "clauses=8, but it must be from 1 to 7"),
        ("sudoku:box=4", "box=4, but it must be from 2 to 3"),
        ("countdown:numbers=7", "numbers=7, but it must be from 2 to 6"),
    ],
)
def test_impossible_options_are_refused(spec: str, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        resolve(tasks, spec).build()
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "line", "reason"),
    [
        (COUNT, "1,1,1/50=", "no arithmetic up to 50 on 1,1,1 leaves 50"),
        (GRID, "1230000400000000=", "the puzzle has no solution"),
        ("three-sat:variables=4,clauses=8", "/".join(
            ",".join(clause) for clause in product(("1", "-1"), ("2", "-2"), ("3", "-3"))
        ) + "=", "no assignment satisfies all clauses"),
    ],
)  # fmt: skip
def test_problems_without_a_solution_are_refused(spec: str, line: str, reason: str) -> None:
    task = resolve(tasks, spec).build()
    prompt, _ = task.read_line(line)
    with pytest.raises(RequestError, match=reason):
        task.solve(prompt)


# Countdown


@pytest.mark.parametrize("answer", ["19-13=6,10+6=16", "19-13=6,6+10=16", "19+10=29,29-13=16"])
def test_any_solution_is_right(answer: str) -> None:
    task = resolve(tasks, COUNT).build()
    assert task.verify(*task.read_line(f"19,13,10/16={answer}"))


def test_division_by_nothing_is_no_division() -> None:
    task = Countdown(numbers=3, largest=20, results=50)
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


def test_distances_are_uniform() -> None:
    batch = MinimalPlanning(steps=4, nodes=12).sample(8000, seeds.stream("uniform"))
    shares = batch.facts["distance"].bincount(minlength=5)[1:] / 8000
    assert (shares - 0.25).abs().max() < 0.02


def test_the_path_and_its_reverse_are_right() -> None:
    task = MinimalPlanning(steps=2, nodes=10)
    prompt, answer = task.read_line(PATHS + "1,2/2,3")
    assert task.solve(prompt) == answer
    assert task.verify(prompt, answer[::-1])
    assert task.read_line(PATHS + "3,2/2,1")[1] == answer[::-1]
    assert not task.verify(prompt, [1, 2, task.vocab.token("/"), 2, 5])


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
