"""Sudoku: fill the blanks so that every row, column and box holds every digit once.

Ye et al. (2024, MGDM) write 81 characters of puzzle and 81 of solution; box=3 has that form. Their puzzles were not at
hand: which cells are given is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy
import torch
from numpy.typing import NDArray

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import sudoku_draw, sudoku_oracle
from foresee.tasks.base import Task, require_option, tasks
from foresee.tasks.text import TextForm


@tasks.register("sudoku")
@dataclass(frozen=True, kw_only=True)
class Sudoku(Task):
    """A puzzle of ``box``^4 cells row by row, 0 where a cell is blank, then ``=`` and the filled grid:
    ``0034...=1234...``. ``box`` is 2 (4x4) or 3 (9x9).

    A puzzle starts from a filled grid with ``clues`` random cells given. Where it cannot be solved by single candidates
    alone (a cell with one digit left, or a digit with one cell left in its row, column or box), further cells are
    given, one at a time, until it can. So every puzzle has one solution and needs no guessing, and has ``clues`` clues
    or more. Filled grids are one of 64 random ones under the symmetries of Sudoku (digits, rows, columns,
    transposition); they are not uniform over all grids.

    Token 0 is a blank, 1 .. box^2 the digits, then ``=``. ``verify`` accepts every filling that obeys the rules and
    keeps the clues. ``chance`` is that of guessing the blanks of a puzzle with ``clues`` clues. Two problems are the
    same where renaming digits, with or without transposing, makes one the other. The few filled grids that there are
    for box=2 occur in both splits. Raises ``RequestError`` where an option is out of range.
    """

    summary: ClassVar[str] = "the blanks of a grid, so that every row, column and box holds every digit once"

    text = TextForm("0034...=1234...", separator="", noun="digit")

    box: int = 2
    clues: int = 4

    def __post_init__(self) -> None:
        require_option(self, "box", 2, 3)
        require_option(self, "clues", 0, self.cells - 1)
        self.declare(
            vocab=Vocabulary((*map(str, range(self.side + 1)), "=")),
            chance=float(self.side) ** (self.clues - self.cells),
            prompt_length=self.cells + 1, answer_length=self.cells,
        )  # fmt: skip

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
        equals = numpy.full((n, 1), self.side + 1)
        tokens = numpy.concatenate([puzzles.reshape(n, -1), equals, filled.reshape(n, -1)], axis=1).astype(numpy.int64)
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.cells)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """A filled grid by search."""
        solved = sudoku_oracle.search(self._puzzle(prompt), self.box)
        if solved is None:
            raise RequestError("the puzzle has no solution")
        return solved

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        return sudoku_oracle.fault(self._puzzle(prompt), [int(token) for token in answer], self.box)

    def check_prompt(self, prompt: Sequence[int]) -> None:
        clash = sudoku_oracle.clash(self._puzzle(prompt), self.box)
        if clash is not None:
            raise RequestError(clash)

    def _puzzle(self, prompt: Sequence[int]) -> list[int]:
        """The cells of a prompt. Raises ``RequestError`` where it has another form."""
        *puzzle, equals = [int(token) for token in prompt] or [-1]
        right = len(puzzle) == self.cells and equals == self.side + 1
        if not right or not all(0 <= cell <= self.side for cell in puzzle):
            raise RequestError(f"the puzzle holds {len(puzzle)} cells, but must hold {self.cells}, and then '='")
        return puzzle

    def identity(self, batch: Batch) -> Fingerprints:
        grids = batch.tokens[:, : self.cells].cpu().numpy().reshape(-1, self.side, self.side)
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


tasks.preset("sudoku-mini", "sudoku:box=2,clues=8")
# The published form; 30 clues to begin with is our choice.
tasks.preset("sudoku-9x9", "sudoku:box=3,clues=30")
