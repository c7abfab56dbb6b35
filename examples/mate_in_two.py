"""A task of one's own files and rules: mate in two, from a file of puzzles that the user supplies.

    pip install chess
    foresee train mate-in-two:path=lichess_db_puzzle.csv,bad=skip --steps 5000 --plugin examples/mate_in_two.py

The answer is the move that forces checkmate, a reply, and the mating move. Bachmann & Nagarajan's repository trains on
the Lichess puzzles of theme ``mateIn2``. This is a larger example than ``running_parity.py``: it reads a file, so that
its content is part of a run's digest; it has a text form of its own; and it needs a library, which is imported when it
is first used. ``mate_in_two.csv`` beside it holds positions made by search among random ones with few pieces.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy
import torch
from numpy.typing import NDArray

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import Task, tasks
from foresee.tasks.text import shown

if TYPE_CHECKING:
    import chess

    Board: TypeAlias = chess.Board

THEME = "mateIn2"
PIECES = "1PNBRQKpnbrqk"
SQUARES = tuple(file + rank for rank in "12345678" for file in "abcdefgh")
NO_PROMOTION = "-"
PLY = 3
"""Tokens of a move: from, to, promotion."""
VOCABULARY = Vocabulary((*PIECES, "w", *SQUARES, NO_PROMOTION, "="))
"""``b`` is Black to move as well as a black bishop, and a promotion is written as a black piece."""

Puzzle = tuple[str, bool, list[str]]
"""Placement of the pieces (first field of a FEN), whether White is to move, and three moves in UCI."""


@tasks.register("mate-in-two")
@dataclass(frozen=True, kw_only=True)
class MateInTwo(Task):
    """The puzzles of the file ``path``. The prompt is the board square by square from a8 to h1, ``1`` for an empty one,
    then the side to move and ``=`` (66 tokens); the answer is three moves of three tokens each: from, to, and the
    piece promoted to or ``-``.

    Files: a CSV with the columns ``FEN`` and ``Moves`` (UCI, separated by spaces), as Lichess publishes it: four moves,
    the first being the opponent's from the FEN's position, or three moves from that position itself; where there is a
    column ``Themes``, rows without ``mateIn2`` are left out. Or a ``.json`` file of the original repository,
    ``{"prefix": [...], "target": [...]}``. ``bad`` says what becomes of a row whose moves are not legal or do not end
    in mate: "refuse" the file, naming row and reason, or "skip" the row. The board shows neither castling rights nor en
    passant, as in the original, so solutions that need them are bad rows. Reading checks three moves a row; that the
    first forces mate is checked only where an answer is verified.

    ``verify`` accepts every first move that forces mate with any legal reply and any mating move after it. ``sample``
    draws rows uniformly, again and again. ``chance`` is that of guessing the first move among the legal ones, averaged
    over the file. Two problems are the same where exchanging the colours, or left and right, makes one the other.
    Deviation: a move is three tokens where the original has four or five characters in one string.

    Raises ``RequestError`` where the library is missing, or where the file is or holds a bad row.
    """

    summary: ClassVar[str] = "chess: mate in two from a file of puzzles (Bachmann & Nagarajan's repository)"

    path: str
    bad: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        if self.bad not in ("refuse", "skip"):
            raise RequestError(f"mate-in-two: bad={self.bad!r}, but it must be refuse or skip")

    @staticmethod
    def content_digest(options: Any) -> str:
        path = Path(options["path"])
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except OSError as error:
            raise _unreadable(path, error) from None

    @property
    def vocab(self) -> Vocabulary:
        return VOCABULARY

    @cached_property
    def puzzles(self) -> NDArray[numpy.int64]:
        """[P, T] tokens of all puzzles of the file, in its order."""
        rows, first_bad = [], None
        for where, read in _rows(Path(self.path)):
            try:
                placement, white, moves = read()
                board, answer = _board(placement, white), _move_tokens(moves)
                if (reason := _fault(board, moves, forced=False)) is not None:
                    raise RequestError(reason)
            except RequestError as error:
                first_bad = first_bad or RequestError(f"{where}: {error}")
                if self.bad == "refuse":
                    raise first_bad from None
                continue
            rows.append([*_prompt(placement, white), *answer])
        if not rows:
            raise first_bad or RequestError(f"{self.path}: the file holds no puzzles of mate in two")
        return numpy.array(rows, numpy.int64)

    @cached_property
    def chance(self) -> float:
        boards = (self._board_of(row[: self.prompt_length]) for row in self.puzzles.tolist())
        return float(numpy.mean([1 / board.legal_moves.count() for board in boards]))

    @property
    def prompt_length(self) -> int:
        return 64 + 2

    @property
    def answer_length(self) -> int:
        return 3 * PLY

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        tokens = self.puzzles[rng.integers(len(self.puzzles), size=n)]
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.answer_length)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """A forced mate by search (about a second)."""
        board = self._board_of(prompt)
        for first in list(board.legal_moves):
            board.push(first)
            if _always_mates(board):
                reply = next(iter(board.legal_moves))
                board.push(reply)
                mate = _mating_move(board)
                return _move_tokens([first.uci(), reply.uci(), mate or ""])
            board.pop()
        raise RequestError("mate-in-two: no move forces mate in two in the position of the prompt")

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        board, moves = self._board_of(prompt), self.write_answer(answer).split(" ")
        try:
            tokens = _move_tokens(moves)
        except RequestError as error:
            return str(error)
        if tokens != list(answer):
            return "a move is three symbols: from, to, and what is promoted to"
        return _fault(board, moves, forced=True)

    def check_prompt(self, prompt: Sequence[int]) -> None:
        self._board_of(prompt)

    def identity(self, batch: Batch) -> Fingerprints:
        tokens = batch.tokens.cpu().numpy()
        boards, black = tokens[:, :64].reshape(-1, 8, 8), tokens[:, 64] != VOCABULARY.token("w")
        # The side to move becomes White: colours exchanged, and the board turned about its middle line.
        other = numpy.array([0, *range(7, 13), *range(1, 7)])
        boards = numpy.where(black[:, None, None], other[boards][:, ::-1], boards)
        forms = [fingerprint(form.reshape(len(form), -1)) for form in (boards, boards[:, :, ::-1])]
        return numpy.minimum(*forms)

    def write_answer(self, answer: Sequence[int]) -> str:
        symbols = VOCABULARY.decode(answer)
        moves = (symbols[at : at + PLY] for at in range(0, len(symbols), PLY))
        return " ".join("".join(symbol for symbol in move if symbol != NO_PROMOTION) for move in moves)

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        symbols = VOCABULARY.decode(prompt)
        return f"{_placement(symbols[:64])} {symbols[64]}{symbols[65]}{self.write_answer(answer)}"

    def read_tokens(self, line: str) -> tuple[list[int], list[int]]:
        problem, equals, written = line.strip().partition("=")
        placement, space, side = problem.partition(" ")
        if not equals or not space or side not in ("w", "b"):
            raise RequestError("there is no side to move, w or b, before '='; a line reads 7k/8/... w=f6f7 ...")
        return _prompt(placement, side == "w"), _move_tokens(written.split(" ")) if written else []

    def _board_of(self, prompt: Sequence[int]) -> Board:
        symbols = VOCABULARY.decode(int(token) for token in prompt)
        if len(symbols) != self.prompt_length or symbols[64] not in ("w", "b") or symbols[65] != "=":
            raise RequestError("mate-in-two: a prompt is 64 squares, the side to move and '='")
        if not set(symbols[:64]) <= set(PIECES):
            raise RequestError(f"mate-in-two: every square of a prompt must be one of {PIECES}")
        return _board(_placement(symbols[:64]), symbols[64] == "w")


# Positions and moves


def _library() -> ModuleType:
    try:
        return importlib.import_module("chess")
    except ModuleNotFoundError:
        raise RequestError("mate-in-two needs the chess library; install it with: pip install chess") from None


def _squares(placement: str) -> str:
    """64 symbols from a8 to h1, ``1`` for an empty square, from the first field of a FEN."""
    ranks = ["".join("1" * int(x) if x in "12345678" else x for x in rank) for rank in placement.split("/")]
    if len(ranks) != 8 or any(len(rank) != 8 for rank in ranks) or not set("".join(ranks)) <= set(PIECES):
        raise RequestError(f"{shown(placement)} is not the placement of pieces on 8 ranks of 8 squares, as in a FEN")
    return "".join(ranks)


def _placement(squares: Sequence[str]) -> str:
    """``_squares`` backwards."""
    ranks = (groupby(squares[at : at + 8]) for at in range(0, 64, 8))
    return "/".join("".join(_run(symbol, len(list(run))) for symbol, run in rank) for rank in ranks)


def _run(symbol: str, times: int) -> str:
    return str(times) if symbol == "1" else symbol * times


def _prompt(placement: str, white: bool) -> list[int]:
    """Tokens of a prompt from the placement field of a FEN."""
    return VOCABULARY.encode([*_squares(placement), "w" if white else "b", "="])


def _move_tokens(moves: Sequence[str]) -> list[int]:
    """Tokens of three moves in UCI."""
    if len(moves) != 3:
        raise RequestError(f"there are {len(moves)} moves, but a mate in two has 3")
    tokens: list[int] = []
    for move in moves:
        start, end, promotion = move[:2], move[2:4], move[4:] or NO_PROMOTION
        if start not in SQUARES or end not in SQUARES or promotion not in ("q", "r", "b", "n", NO_PROMOTION):
            raise RequestError(f"{shown(move)} is not a move such as e2e4 or e7e8q")
        tokens += VOCABULARY.encode([start, end, promotion])
    return tokens


def _board(placement: str, white: bool) -> Board:
    """A position without castling rights and en passant. Raises ``RequestError`` where it cannot occur."""
    board: Board = _library().Board(None)
    board.set_board_fen(_placement(_squares(placement)))
    board.turn = white
    if not board.is_valid():
        raise RequestError(f"the position {placement} {'w' if white else 'b'} breaks the rules of chess")
    return board


def _push(board: Board, text: str) -> str | None:
    """Makes a move, or says why it cannot be made."""
    chess = _library()
    try:
        move = chess.Move.from_uci(text)
    except ValueError:
        return f"{shown(text)} is not a move such as e2e4 or e7e8q"
    if move not in board.legal_moves:
        return f"{text} is not legal in {board.board_fen()} {'w' if board.turn else 'b'}"
    board.push(move)
    return None


def _fault(board: Board, moves: Sequence[str], forced: bool) -> str | None:
    """Why three moves are not a mate in two: one is illegal, or the last does not mate, or, with ``forced``, the first
    leaves a reply that escapes; None where they are one. The board is left as it was."""
    if len(moves) != 3:
        return f"there are {len(moves)} moves, but a mate in two has 3"
    board = board.copy(stack=False)
    for number, text in enumerate(moves):
        if (reason := _push(board, text)) is not None:
            return reason
        if number == 0 and forced and not _always_mates(board):
            return f"{text} does not force mate in two"
    return None if board.is_checkmate() else f"{moves[-1]} does not mate"


def _always_mates(board: Board) -> bool:
    """Whether there is a legal move, and each can be answered by mate."""
    replies = list(board.legal_moves)
    for reply in replies:
        board.push(reply)
        mate = _mating_move(board)
        board.pop()
        if mate is None:
            return False
    return bool(replies)


def _mating_move(board: Board) -> str | None:
    for move in board.legal_moves:
        board.push(move)
        mates = board.is_checkmate()
        board.pop()
        if mates:
            return move.uci()
    return None


# Files


def _unreadable(path: Path, error: OSError) -> RequestError:
    if isinstance(error, FileNotFoundError):
        return RequestError(f"{path}: no such file; give the path of a file of puzzles")
    return RequestError(f"{path}: cannot be read: {error.strerror}")


def _rows(path: Path) -> Iterator[tuple[str, Callable[[], Puzzle]]]:
    """For each row of a file: how messages name it, and what reads it, which raises ``RequestError`` where it is bad.

    Raises ``RequestError`` where the file is missing or has another format.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _json_rows(path, file.read()) if path.suffix == ".json" else _csv_rows(path, file)
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError:
        raise RequestError(f"{path}: the file is not UTF-8 text; unpack it first where it is compressed") from None
    except csv.Error as error:
        raise RequestError(f"{path}: not a CSV file: {error}") from None


def _csv_rows(path: Path, lines: Iterator[str]) -> Iterator[tuple[str, Callable[[], Puzzle]]]:
    reader = csv.DictReader(lines)
    columns = reader.fieldnames or []
    missing = [name for name in ("FEN", "Moves") if name not in columns]
    if missing:
        raise RequestError(f"{path}: the header has no column {' and no column '.join(missing)}")
    for row in reader:
        if "Themes" not in columns or THEME in (row["Themes"] or "").split():
            yield f"{path}, row {reader.line_num}", partial(_from_fen, row["FEN"] or "", (row["Moves"] or "").split())


def _from_fen(fen: str, moves: list[str]) -> Puzzle:
    """Three moves start from the FEN's position; the first of four leads from there to the puzzle's."""
    if len(moves) != 4:
        return *_position(fen), moves
    chess = _library()
    try:
        board: Board = chess.Board(fen)
    except ValueError:
        raise RequestError(f"{shown(fen)} is not a FEN") from None
    if (reason := _push(board, moves[0])) is not None:
        raise RequestError(reason)
    return board.board_fen(), board.turn, moves[1:]


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
    _squares(placement)
    return placement, side == "w"
