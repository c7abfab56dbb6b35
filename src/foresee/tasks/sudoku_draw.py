"""Drawing Sudoku: filled grids, and which of their cells are given, many at a time."""

from __future__ import annotations

from functools import lru_cache

import numpy
from numpy.typing import NDArray

from foresee.core import seeds

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
