"""Sudoku: fill the blanks so that every row, column and box holds every digit once. docs/tasks.md has the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy
from numpy.typing import NDArray

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.tasks import sudoku_draw
from foresee.tasks.base import Bounds, require_option, tasks
from foresee.tasks.controls import NumberTask
from foresee.tasks.text import TextForm


@tasks.register("sudoku")
@dataclass(frozen=True, kw_only=True)
class Sudoku(NumberTask):
    """A puzzle of ``box``^4 cells row by row, 0 where a cell is blank, then ``=`` and the filled grid.

    A puzzle starts from a filled grid with ``clues`` random cells given; further cells are given, one at a time, until
    it can be solved by single candidates alone (a cell with one digit left, or a digit with one cell left in its row,
    column or box). So every puzzle has one solution. Filled grids are one of 64 random ones under the symmetries of
    Sudoku; they are not uniform over all grids. Token 0 is a blank, 1 .. box^2 the digits, then ``=``.

    ``chance`` is that of guessing the blanks of a puzzle with ``clues`` clues. Two problems are the same where renaming
    digits, with or without transposing, makes one the other.
    """

    summary: ClassVar[str] = "the blanks of a grid, so that every row, column and box holds every digit once"
    text = TextForm("0034...=1234...", separator="", noun="digit")

    box: Annotated[int, Bounds(2, 3)] = 2
    clues: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self, "clues", 0, self.cells - 1)
        chance = float(self.side) ** (self.clues - self.cells)
        self.declare_numbers(self.side + 1, self.cells, self.cells, chance)

    @property
    def side(self) -> int:
        """Cells of a row."""
        return self.box**2

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return self.side**2

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        filled = sudoku_draw.filled_grids(self.box, n, rng)
        puzzles = sudoku_draw.puzzles(filled, self.box, self.clues, rng)
        return self.batch_of(puzzles.reshape(n, -1), filled.reshape(n, -1))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """A filled grid by search."""
        solved = search(self.numbers_of(prompt), self.box)
        if solved is None:
            raise RequestError("the puzzle has no solution")
        return solved

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        puzzle, answer = self.numbers_of(prompt), [int(token) for token in answer]
        if len(answer) != self.cells:
            return f"the answer has {len(answer)} cells, but the grid has {self.cells}"
        for cell, (clue, digit) in enumerate(zip(puzzle, answer, strict=True), 1):
            if not 1 <= digit <= self.side:
                return f"cell {cell} of the answer holds no digit from 1 to {self.side}"
            if clue and clue != digit:
                return f"cell {cell} of the answer is {digit}, but the puzzle gives {clue} there"
        return clash(answer, self.box)

    def check_prompt(self, prompt: Sequence[int]) -> None:
        if (reason := clash(self.numbers_of(prompt), self.box)) is not None:
            raise RequestError(reason)

    def identity(self, batch: Batch) -> Fingerprints:
        grids = self.problems_in(batch).reshape(-1, self.side, self.side)
        forms = [
            fingerprint(renamed(form.reshape(len(form), -1), self.side)) for form in (grids, grids.transpose(0, 2, 1))
        ]
        return numpy.minimum(*forms)


def renamed(cells: NDArray[numpy.int64], side: int) -> NDArray[numpy.int64]:
    """[B, K] cells with digits numbered in the order in which they first occur; blanks stay 0."""
    digits = numpy.arange(1, side + 1)
    occurs = cells[:, :, None] == digits
    first = numpy.where(occurs.any(axis=1), occurs.argmax(axis=1), cells.shape[1])
    rank = first.argsort(axis=1, kind="stable").argsort(axis=1) + 1
    names = numpy.concatenate([numpy.zeros((len(cells), 1), numpy.int64), rank], axis=1)
    return numpy.take_along_axis(names, cells, axis=1)


# The rules, and a search that shares no code with the drawing of puzzles


def _units(box: int) -> list[tuple[str, list[int]]]:
    """Names and cells of all rows, columns and boxes; cells are numbered row by row from 0."""
    side = box * box
    found = [(f"row {r + 1}", [r * side + c for c in range(side)]) for r in range(side)]
    found += [(f"column {c + 1}", [r * side + c for r in range(side)]) for c in range(side)]
    for place in range(side):
        top, left = place // box * box, place % box * box
        found.append((f"box {place + 1}", [(top + r) * side + left + c for r in range(box) for c in range(box)]))
    return found


def clash(cells: Sequence[int], box: int) -> str | None:
    """Where a digit occurs twice in a row, column or box, blanks aside; None where none does."""
    for name, unit in _units(box):
        digits = [cells[cell] for cell in unit if cells[cell]]
        for digit in digits:
            if digits.count(digit) > 1:
                return f"digit {digit} occurs twice in {name}"
    return None


def search(puzzle: Sequence[int], box: int) -> list[int] | None:
    """A solution, or None where there is none."""
    side = box * box
    if clash(puzzle, box) is not None:
        return None
    beside: list[set[int]] = [set() for _ in puzzle]
    for _, unit in _units(box):
        for cell in unit:
            beside[cell] |= set(unit) - {cell}
    return _extend(list(puzzle), beside, set(range(1, side + 1)))


def _extend(cells: list[int], beside: list[set[int]], digits: set[int]) -> list[int] | None:
    blanks = [
        (digits - {cells[other] for other in beside[cell]}, cell) for cell, digit in enumerate(cells) if not digit
    ]
    if not blanks:
        return cells
    choices, cell = min(blanks, key=lambda blank: len(blank[0]))
    for digit in sorted(choices):
        found = _extend([*cells[:cell], digit, *cells[cell + 1 :]], beside, digits)
        if found is not None:
            return found
    return None


tasks.preset("sudoku-mini", "sudoku:box=2,clues=8")
# The published form; 30 clues to begin with is our choice.
tasks.preset("sudoku-9x9", "sudoku:box=3,clues=30")
