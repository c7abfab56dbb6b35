"""The rules of Sudoku and a search for solutions. Shares no code with the drawing of puzzles."""

from __future__ import annotations

from collections.abc import Sequence


def units(box: int) -> list[tuple[str, list[int]]]:
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
    for name, unit in units(box):
        digits = [cells[cell] for cell in unit if cells[cell]]
        for digit in digits:
            if digits.count(digit) > 1:
                return f"digit {digit} occurs twice in {name}"
    return None


def fault(puzzle: Sequence[int], answer: Sequence[int], box: int) -> str | None:
    """The first thing that is wrong with an answer, whatever tokens it holds; None where it is right."""
    if len(answer) != len(puzzle):
        return f"the answer has {len(answer)} cells, but the grid has {len(puzzle)}"
    for cell, (clue, digit) in enumerate(zip(puzzle, answer, strict=True), 1):
        if not 1 <= digit <= box * box:
            return f"cell {cell} of the answer holds no digit from 1 to {box * box}"
        if clue and clue != digit:
            return f"cell {cell} of the answer is {digit}, but the puzzle gives {clue} there"
    return clash(answer, box)


def search(puzzle: Sequence[int], box: int) -> list[int] | None:
    """A solution, or None where there is none."""
    side = box * box
    if clash(puzzle, box) is not None:
        return None
    beside: list[set[int]] = [set() for _ in puzzle]
    for _, unit in units(box):
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
