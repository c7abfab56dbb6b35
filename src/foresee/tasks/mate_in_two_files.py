"""Files of mate-in-two puzzles: Lichess CSV, and the JSON of Bachmann & Nagarajan's repository."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from foresee.core.errors import RequestError
from foresee.tasks import mate_in_two_rules

THEME = "mateIn2"

Puzzle = tuple[str, bool, list[str]]
"""Placement of the pieces (first field of a FEN), whether White is to move, and three moves in UCI."""


def digest(path: Path) -> str:
    """16 hexadecimal characters of a file's SHA-256. Raises ``RequestError`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise _unreadable(path, error) from None


def rows(path: Path) -> Iterator[tuple[str, Callable[[], Puzzle]]]:
    """For each row of a file: how messages name it, and what reads it, which raises ``RequestError`` where it is bad.

    Raises ``RequestError`` where the file is missing or has another format.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".json":
                yield from _json_rows(path, file.read())
            else:
                yield from _csv_rows(path, csv.DictReader(file))
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError:
        raise RequestError(f"{path}: the file is not UTF-8 text; unpack it first where it is compressed") from None
    except csv.Error as error:
        raise RequestError(f"{path}: not a CSV file: {error}") from None


def _unreadable(path: Path, error: OSError) -> RequestError:
    if isinstance(error, FileNotFoundError):
        return RequestError(f"{path}: no such file; give the path of a file of puzzles")
    return RequestError(f"{path}: cannot be read: {error.strerror}")


def _csv_rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[str, Callable[[], Puzzle]]]:
    columns = reader.fieldnames or []
    missing = [name for name in ("FEN", "Moves") if name not in columns]
    if missing:
        raise RequestError(f"{path}: the header has no column {' and no column '.join(missing)}")
    for row in reader:
        if "Themes" not in columns or THEME in (row["Themes"] or "").split():
            yield f"{path}, row {reader.line_num}", partial(_from_fen, row["FEN"] or "", (row["Moves"] or "").split())


def _from_fen(fen: str, moves: list[str]) -> Puzzle:
    """Three moves start from the FEN's position; the first of four leads from there to the puzzle's."""
    if len(moves) == 4:
        board = mate_in_two_rules.after_first(fen, moves[0])
        return board.board_fen(), board.turn, moves[1:]
    if len(moves) != 3:
        raise RequestError(f"there are {len(moves)} moves, but a mate in two has 3, or 4 with the opponent's before it")
    return *_position(fen), moves


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Callable[[], Puzzle]]]:
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        data = None
    prefixes, targets = (data.get(key) if isinstance(data, dict) else None for key in ("prefix", "target"))
    if not isinstance(prefixes, list) or not isinstance(targets, list) or len(prefixes) != len(targets):
        raise RequestError(f'{path}: not a JSON object {{"prefix": [...], "target": [...]}} with lists of one length')
    for number, (prefix, target) in enumerate(zip(prefixes, targets, strict=True), 1):
        yield f"{path}, row {number}", partial(_from_pair, prefix, target)


def _from_pair(prefix: object, target: object) -> Puzzle:
    if not isinstance(prefix, str) or not isinstance(target, str):
        raise RequestError("the prefix and the target must be strings")
    # The original writes a comma between the symbols of a rank.
    return *_position(prefix.replace(",", "")), target.split()


def _position(fen: str) -> tuple[str, bool]:
    """The first two fields of a FEN."""
    placement, _, rest = fen.strip().partition(" ")
    side = rest.partition(" ")[0]
    if side not in ("w", "b"):
        raise RequestError(f"the position {fen!r} does not say who is to move, w or b")
    mate_in_two_rules.squares_of(placement)
    return placement, side == "w"
