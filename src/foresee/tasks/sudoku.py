"""Sudoku: fill the blanks so that every row, column and box holds every digit once. docs/tasks.md has the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy
from numpy.typing import NDArray

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.tasks.base import Bounds, require_option, tasks
from foresee.tasks.controls import NumberTask
from foresee.tasks.text import TextForm

POOL = 64
"""Filled grids that all others are made from by symmetries."""

Grids = NDArray[numpy.int64]
Sets = NDArray[numpy.uint16]
"""Sets of digits: bit d - 1 stands for digit d."""


def filled_grids(box: int, n: int, rng: numpy.random.Generator) -> Grids:
    """[n, side, side] filled grids: random ones of the pool, with digits renamed, rows and columns exchanged within
    bands and bands among themselves, and half of them transposed, all at random."""
    side = box**2
    grids = _pool(box)[rng.integers(POOL, size=n)]
    names = rng.random((n, side)).argsort(axis=1) + 1
    grids = numpy.take_along_axis(names, grids.reshape(n, -1) - 1, axis=1).reshape(n, side, side)
    grids = numpy.take_along_axis(grids, _line_order(box, n, rng)[:, :, None], axis=1)
    grids = numpy.take_along_axis(grids, _line_order(box, n, rng)[:, None, :], axis=2)
    turned = rng.integers(2, size=n, dtype=bool)
    return numpy.where(turned[:, None, None], grids.transpose(0, 2, 1), grids)


def puzzles(filled: Grids, box: int, clues: int, rng: numpy.random.Generator) -> Grids:
    """[n, side, side] puzzles with 0 for blanks: ``clues`` random cells of each filled grid, and as many more, in the
    same random order, as single candidates need to solve it."""
    n, side, _ = filled.shape
    # How soon a cell is given; blanks that turn out to be needed are given in this order.
    order = rng.random((n, side, side))
    rank = order.reshape(n, -1).argsort(axis=1).argsort(axis=1).reshape(n, side, side)
    given = rank < clues
    sets = (1 << (filled - 1)).astype(numpy.uint16)
    known = numpy.where(given, sets, numpy.uint16(0))
    active = numpy.arange(n)
    while len(active):
        here = known[active]
        found = numpy.where(_singles(here, box), sets[active], numpy.uint16(0))
        stuck = ~found.any(axis=(1, 2))
        known[active] |= found
        if stuck.any():
            rows = active[stuck]
            waiting = numpy.where(known[rows] == 0, rank[rows], side**2).reshape(len(rows), -1)
            at = waiting.argmin(axis=1)
            given.reshape(n, -1)[rows, at] = True
            known.reshape(n, -1)[rows, at] = sets.reshape(n, -1)[rows, at]
        active = active[(known[active] == 0).any(axis=(1, 2))]
    return numpy.where(given, filled, 0)


def _singles(known: Sets, box: int) -> NDArray[numpy.bool_]:
    """[B, side, side] which blank cells follow from the known ones at once: one digit is left for the cell, or one cell
    of its row, column or box for a digit."""
    side = box**2
    rows, columns = numpy.bitwise_or.reduce(known, axis=2), numpy.bitwise_or.reduce(known, axis=1)
    boxes = numpy.bitwise_or.reduce(_by_box(known, box), axis=2)
    seen = rows[:, :, None] | columns[:, None, :] | _from_boxes(numpy.repeat(boxes[:, :, None], side, axis=2), box)
    candidates = numpy.where(known == 0, ~seen & numpy.uint16((1 << side) - 1), 0).astype(numpy.uint16)
    naked = (candidates & (candidates - numpy.uint16(1))) == 0
    alone = _once(candidates, 2)[:, :, None] | _once(candidates, 1)[:, None, :]
    boxed = _once(_by_box(candidates, box), 2)[:, :, None]
    alone = alone | _from_boxes(numpy.repeat(boxed, side, axis=2), box)
    return numpy.asarray((candidates != 0) & (naked | (candidates & alone != 0)))


def _once(candidates: Sets, axis: int) -> Sets:
    """The digits that occur in exactly one of the sets along an axis of [B, K, K]."""
    once = numpy.zeros_like(candidates.take(0, axis=axis))
    more = once.copy()
    for at in range(candidates.shape[axis]):
        here = candidates.take(at, axis=axis)
        more |= once & here
        once |= here
    return once & ~more


def _by_box(grids: Sets, box: int) -> Sets:
    """[B, side, side] by row and column -> [B, side, side] by box and place in it."""
    shape = (len(grids), box, box, box, box)
    return grids.reshape(shape).transpose(0, 1, 3, 2, 4).reshape(grids.shape)


_from_boxes = _by_box
"""The way back: exchanging the middle axes twice changes nothing."""


def _line_order(box: int, n: int, rng: numpy.random.Generator) -> Grids:
    """[n, side] orders of rows (or columns) that keep bands together."""
    bands = rng.random((n, box)).argsort(axis=1)
    within = rng.random((n, box, box)).argsort(axis=2)
    return (bands[:, :, None] * box + within).reshape(n, -1)


@lru_cache(maxsize=2)
def _pool(box: int) -> Grids:
    """[POOL, side, side] filled grids, the same ones always."""
    rng = seeds.stream("sudoku grids", box)
    return numpy.stack([_fill(box, rng) for _ in range(POOL)])


def _fill(box: int, rng: numpy.random.Generator) -> Grids:
    """A filled grid: a random digit in a cell that has fewest left, over and over; anew after a dead end."""
    side = box**2
    rows, columns = numpy.indices((side, side))
    boxes = rows // box * box + columns // box
    while True:
        grid = numpy.zeros((side, side), numpy.int64)
        allowed = numpy.ones((side, side, side), bool)
        for _ in range(side**2):
            left = numpy.where(grid == 0, allowed.sum(axis=2) + rng.random((side, side)), side + 2)
            row, column = numpy.unravel_index(left.argmin(), left.shape)
            choices = numpy.flatnonzero(allowed[row, column])
            if not len(choices):
                break
            digit = int(rng.choice(choices))
            grid[row, column] = digit + 1
            allowed[(rows == row) | (columns == column) | (boxes == boxes[row, column]), digit] = False
        else:
            return grid


@tasks.register("sudoku")
@dataclass(frozen=True, kw_only=True)
class Sudoku(NumberTask):
    """A puzzle of ``box``^4 cells row by row, 0 where a cell is blank, then ``=`` and the filled grid.

    A puzzle starts from a filled grid with ``clues`` random cells given; further cells are given, one at a time, until
    it can be solved by single candidates alone (a cell with one digit left, or a digit with one cell left in its row,
    column or box). So every puzzle has one solution. Filled grids are one of 64 random ones under the symmetries of
    Sudoku; they are not uniform over all grids. Token 0 is a blank, 1 .. box^2 the digits, then ``=``.

    ``chance`` is that of guessing the blanks of a puzzle with ``clues`` clues; puzzles that keep more are easier. Two
    problems are the same where renaming digits, with or without transposing, makes one the other.
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
        filled = filled_grids(self.box, n, rng)
        given = puzzles(filled, self.box, self.clues, rng)
        return self.batch_of(given.reshape(n, -1), filled.reshape(n, -1))

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
