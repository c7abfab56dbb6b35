"""Sudoku: puzzles have one solution, symmetric ones are the same problem, and bad grids are refused."""

from __future__ import annotations

import numpy
import pytest
import torch

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.tasks.sudoku import Sudoku

SMALL = Sudoku(box=2, clues=4)
LINE = "1000003001000002="


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
    batch = SMALL.sample(150, seeds.stream("unique"))
    counts = (batch.prompts[:, :-1] > 0).sum(1)
    assert int(counts.min()) == 4
    for prompt in batch.prompts[:, :-1].tolist():
        assert solutions(prompt) == 1


@pytest.mark.parametrize("box", [2, 3])
def test_grids_differ_in_every_way(box: int) -> None:
    batch = Sudoku(box=box, clues=2 * box).sample(2000, seeds.stream("grids"))
    cells = batch.answers
    for place in (0, box**2 - 1, box**4 // 2):
        shares = cells[:, place].bincount(minlength=box**2 + 1)[1:] / 2000
        assert (shares - 1 / box**2).abs().max() < 0.05
    if box == 2:
        assert len(set(map(tuple, cells.tolist()))) > 250  # of 288


def test_renamed_digits_and_transposed_grids_are_the_same_problem() -> None:
    batch = SMALL.sample(100, seeds.stream("same"))
    puzzle = batch.prompts[:, :16]
    renamed = torch.tensor([0, 3, 1, 4, 2])[puzzle]
    turned = puzzle.reshape(-1, 4, 4).transpose(1, 2).reshape(-1, 16)
    identity = SMALL.identity(batch)
    for other in (renamed, turned):
        same = Batch.of(torch.cat([other, batch.tokens[:, 16:]], 1), 17, 16)
        assert numpy.array_equal(SMALL.identity(same), identity)
    assert len(set(identity.tolist())) > 90


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("100000300100000=", "the puzzle holds 15 cells, but must hold 16"),
        ("1000003001000005=", "'5' in the puzzle is not a digit from 0 to 4"),
        ("1001003001000002=", "digit 1 occurs twice in row 1"),
        (LINE + "2431314213244213", "cell 1 of the answer is 2, but the puzzle gives 1 there"),
        (LINE + "1234", "the answer has 4 cells, but the grid has 16"),
        (LINE + "1111111111111111", "cell 7 of the answer is 1, but the puzzle gives 3 there"),
    ],
)
def test_bad_lines_say_why(line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        SMALL.read_line(line)


def test_a_puzzle_without_a_solution_is_refused() -> None:
    prompt, _ = SMALL.read_line("1230400000000000=")
    with pytest.raises(RequestError, match="the puzzle has no solution"):
        SMALL.solve([*prompt[:3], 0, 0, 0, 0, 4, *prompt[8:]])


def test_nine_by_nine_puzzles_are_solved_by_search() -> None:
    task = Sudoku(box=3, clues=26)
    batch = task.sample(4, seeds.stream("nine"))
    for prompt, answer in zip(batch.prompts.tolist(), batch.answers.tolist(), strict=True):
        assert task.solve(prompt) == answer
