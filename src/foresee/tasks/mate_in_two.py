"""Mate in two: the move that forces checkmate, the reply, and the mating move, from a file of puzzles that the user
supplies.

Bachmann & Nagarajan's repository trains on the Lichess puzzles of theme ``mateIn2``; research/tasks.md section 13
describes its data. Needs the ``chess`` library, the extra ``chess`` of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import mate_in_two_files, mate_in_two_rules, reading
from foresee.tasks.base import Task, tasks
from foresee.tasks.mate_in_two_rules import NO_PROMOTION, SQUARES

BadRows = Literal["refuse", "skip"]
FORM = "7k/8/5K2/8/8/8/6R1/7R w=f6f7 ..."
PIECES = "1PNBRQKpnbrqk"
PLY = 3
"""Tokens of a move: from, to, promotion."""
VOCABULARY = Vocabulary((*PIECES, "w", *SQUARES, NO_PROMOTION, "="))
"""``b`` is Black to move as well as a black bishop, and a promotion is written as a black piece."""


@tasks.register("mate-in-two")
@dataclass(frozen=True, kw_only=True)
class MateInTwo(Task):
    """The puzzles of the file ``path``. The prompt is the board square by square from a8 to h1, ``1`` for an empty one,
    then the side to move and ``=`` (66 tokens); the answer is three moves of three tokens each: from, to, and the
    piece promoted to or ``-``.

    Files: a CSV with a header that has the columns ``FEN`` and ``Moves`` (UCI, separated by spaces), as Lichess
    publishes it: four moves, the first being the opponent's from the FEN's position, or three moves from the FEN's
    position itself; where there is a column ``Themes``, rows without ``mateIn2`` are left out. Or a ``.json`` file of
    the original repository, ``{"prefix": [...], "target": [...]}``. ``bad`` says what becomes of a row whose moves are
    not legal or do not end in mate on the board as the prompt shows it: "refuse" the file, naming the row and the
    reason, or "skip" the row. The board shows neither castling rights nor en passant, as in the original, so solutions
    that need them are bad rows. Reading checks three moves a row; that the first forces mate is checked only where an
    answer is verified.

    ``verify`` accepts every first move that forces mate with any legal reply and any mating move after it. ``sample``
    draws rows uniformly, again and again: the file is all the problems there are. ``chance`` is that of guessing the
    first move among the legal ones, averaged over the file. Two problems are the same where exchanging the colours, or
    left and right, makes one the other. Deviations from the original: a move is three tokens where it has four or five
    characters in one string, so promotions can be kept.

    Raises ``RequestError`` where the library is missing, or where the file is or holds a bad row.
    """

    summary: ClassVar[str] = "chess: mate in two from a file of puzzles (Bachmann & Nagarajan's repository)"

    path: str
    bad: BadRows = "refuse"

    def __post_init__(self) -> None:
        if self.bad not in get_args(BadRows):
            raise RequestError(f"mate-in-two: bad={self.bad!r}, but it must be refuse or skip")

    @staticmethod
    def content_digest(options: Mapping[str, Any]) -> str:
        """16 hexadecimal characters of the file, so that a run on another content is another run. Raises
        ``RequestError`` where it cannot be read."""
        return mate_in_two_files.digest(Path(options["path"]))

    @property
    def vocab(self) -> Vocabulary:
        return VOCABULARY

    @cached_property
    def puzzles(self) -> NDArray[numpy.int64]:
        """[P, T] tokens of all puzzles of the file, in its order."""
        rows = []
        first_bad = None
        for where, read in mate_in_two_files.rows(Path(self.path)):
            try:
                placement, white, moves = read()
                prompt, answer = self._prompt(placement, white), self._moves(moves)
                board = mate_in_two_rules.board_of(placement, white)
                fault = mate_in_two_rules.fault(board, self._uci(answer) or [], forced=False)
                if fault is not None:
                    raise RequestError(fault)
            except RequestError as error:
                first_bad = first_bad or RequestError(f"{where}: {error}")
                if self.bad == "refuse":
                    raise first_bad from None
                continue
            rows.append([*prompt, *answer])
        if not rows:
            raise first_bad or RequestError(f"{self.path}: the file holds no puzzles of mate in two")
        return numpy.array(rows, numpy.int64)

    @cached_property
    def chance(self) -> float:
        # Kept, since it asks the library about every puzzle.
        boards = (self._board(row[: self.prompt_length]) for row in self.puzzles.tolist())
        return float(numpy.mean([1 / board.legal_moves.count() for board in boards]))

    @property
    def prompt_length(self) -> int:
        return 64 + 2

    @property
    def answer_length(self) -> int:
        return 3 * PLY

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        tokens = self.puzzles[rng.integers(len(self.puzzles), size=n)]
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.answer_length, {})

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """A forced mate by search (about a second). Raises ``RequestError`` on a prompt of another form or without
        one."""
        moves = mate_in_two_rules.search(self._board(prompt))
        if moves is None:
            raise RequestError("mate-in-two: no move forces mate in two in the position of the prompt")
        return self._moves(moves)

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        moves = self._uci([int(token) for token in answer])
        return moves is not None and mate_in_two_rules.fault(self._board(prompt), moves, forced=True) is None

    def identity(self, batch: Batch) -> Fingerprints:
        tokens = batch.tokens.cpu().numpy()
        boards, black = tokens[:, :64].reshape(-1, 8, 8), tokens[:, 64] != VOCABULARY.token("w")
        # The side to move becomes White: colours exchanged, and the board turned about its middle line.
        other = numpy.array([0, *range(7, 13), *range(1, 7)])
        boards = numpy.where(black[:, None, None], other[boards][:, ::-1], boards)
        forms = [fingerprint(form.reshape(len(form), -1)) for form in (boards, boards[:, :, ::-1])]
        return numpy.minimum(*forms)

    def write_answer(self, answer: Sequence[int]) -> str:
        symbols = self.vocab.decode(answer)
        moves = (symbols[at : at + PLY] for at in range(0, len(symbols), PLY))
        return " ".join("".join(symbol for symbol in move if symbol != NO_PROMOTION) for move in moves)

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        symbols = self.vocab.decode(prompt)
        placement = mate_in_two_rules.placement_of(symbols[:64])
        return f"{placement} {symbols[64]}{symbols[65]}{self.write_answer(answer)}"

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        problem, written = reading.halves(line, FORM)
        placement, space, side = problem.partition(" ")
        if not space or side not in ("w", "b"):
            raise RequestError(f"there is no side to move, w or b, before '='; a line reads {FORM}")
        prompt = self._prompt(placement, side == "w")
        board = mate_in_two_rules.board_of(placement, side == "w")
        answer = self._moves(written.split(" ")) if written else []
        fault = mate_in_two_rules.fault(board, written.split(" "), forced=True) if written else None
        if fault is not None:
            raise RequestError(fault)
        return prompt, answer

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return {}

    def _prompt(self, placement: str, white: bool) -> list[int]:
        """Tokens of a prompt from the placement field of a FEN."""
        return self.vocab.encode([*mate_in_two_rules.squares_of(placement), "w" if white else "b", "="])

    def _board(self, prompt: Sequence[int]) -> mate_in_two_rules.Board:
        symbols = self.vocab.decode(int(token) for token in prompt)
        if len(symbols) != self.prompt_length or symbols[64] not in ("w", "b") or symbols[65] != "=":
            raise RequestError("mate-in-two: a prompt is 64 squares, the side to move and '='")
        if not set(symbols[:64]) <= set(PIECES):
            raise RequestError(f"mate-in-two: every square of a prompt must be one of {PIECES}")
        return mate_in_two_rules.board_of(mate_in_two_rules.placement_of(symbols[:64]), symbols[64] == "w")

    def _moves(self, moves: Sequence[str]) -> list[int]:
        """Tokens of moves in UCI."""
        reading.require_count(len(moves), 3, "moves", "the answer")
        tokens: list[int] = []
        for move in moves:
            start, end, promotion = move[:2], move[2:4], move[4:] or NO_PROMOTION
            if start not in SQUARES or end not in SQUARES or promotion not in ("q", "r", "b", "n", NO_PROMOTION):
                raise RequestError(f"{reading.shown(move)} is not a move such as e2e4 or e7e8q")
            tokens += self.vocab.encode([start, end, promotion])
        return tokens

    def _uci(self, answer: Sequence[int]) -> list[str] | None:
        """Three moves in UCI, or None where tokens are no moves."""
        symbols = self.vocab.decode(answer)
        if len(symbols) != self.answer_length:
            return None
        moves = [symbols[at : at + PLY] for at in range(0, len(symbols), PLY)]
        for start, end, promotion in moves:
            if start not in SQUARES or end not in SQUARES or promotion not in ("q", "r", "b", "n", NO_PROMOTION):
                return None
        return ["".join(symbol for symbol in move if symbol != NO_PROMOTION) for move in moves]
