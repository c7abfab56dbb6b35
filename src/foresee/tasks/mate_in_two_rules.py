"""The rules of chess that mate in two needs, by the ``chess`` library, which is imported when first used."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

from foresee.core.errors import RequestError
from foresee.tasks.reading import shown

if TYPE_CHECKING:
    import chess

    Board: TypeAlias = chess.Board
    Move: TypeAlias = chess.Move

SQUARES = tuple(file + rank for rank in "12345678" for file in "abcdefgh")
NO_PROMOTION = "-"


def _library() -> ModuleType:
    try:
        return importlib.import_module("chess")
    except ModuleNotFoundError:
        raise RequestError(
            "mate-in-two needs the chess library; install it with: pip install 'foresee[chess]'"
        ) from None


def squares_of(placement: str) -> list[str]:
    """64 symbols from a8 to h1, ``1`` for an empty square, from the first field of a FEN."""
    ranks = placement.split("/")
    squares = [["1" * int(symbol) if symbol in "12345678" else symbol for symbol in rank] for rank in ranks]
    expanded = ["".join(rank) for rank in squares]
    if (
        len(ranks) != 8
        or any(len(rank) != 8 for rank in expanded)
        or not set("".join(expanded)) <= set("1PNBRQKpnbrqk")
    ):
        raise RequestError(f"{shown(placement)} is not the placement of pieces on 8 ranks of 8 squares, as in a FEN")
    return list("".join(expanded))


def placement_of(squares: Sequence[str]) -> str:
    """``squares_of`` backwards."""
    ranks = []
    for at in range(0, 64, 8):
        rank, empty = "", 0
        for symbol in squares[at : at + 8]:
            if symbol == "1":
                empty += 1
                continue
            rank += (str(empty) if empty else "") + symbol
            empty = 0
        ranks.append(rank + (str(empty) if empty else ""))
    return "/".join(ranks)


def board_of(placement: str, white: bool) -> Board:
    """A position without castling rights and en passant. Raises ``RequestError`` where it cannot occur."""
    chess = _library()
    board: Board = chess.Board(None)
    board.set_board_fen(placement_of(squares_of(placement)))
    board.turn = white
    if not board.is_valid():
        raise RequestError(f"the position {placement} {'w' if white else 'b'} breaks the rules of chess")
    return board


def after_first(fen: str, move: str) -> Board:
    """The position after one move from that of a whole FEN. Raises ``RequestError`` where either is wrong."""
    chess = _library()
    try:
        board: Board = chess.Board(fen)
    except ValueError:
        raise RequestError(f"{shown(fen)} is not a FEN") from None
    board.push(_legal(board, move))
    return board


def fault(board: Board, moves: Sequence[str], forced: bool) -> str | None:
    """Why three moves are not a mate in two: one is illegal, or the last does not mate, or, with ``forced``, the first
    leaves a reply that escapes; None where they are one. The board is left as it was."""
    if len(moves) != 3:
        return f"there are {len(moves)} moves, but a mate in two has 3"
    board = board.copy(stack=False)
    for number, text in enumerate(moves):
        try:
            board.push(_legal(board, text))
        except RequestError as error:
            return str(error)
        if number == 0 and forced and not _always_mates(board):
            return f"{text} does not force mate in two"
    return None if board.is_checkmate() else f"{moves[-1]} does not mate"


def search(board: Board) -> list[str] | None:
    """A first move that forces mate, a reply and the mating move; None where there is none."""
    for first in list(board.legal_moves):
        board.push(first)
        if _always_mates(board):
            reply = next(iter(board.legal_moves))
            board.push(reply)
            mate = _mating_move(board)
            board.pop()
            board.pop()
            return None if mate is None else [first.uci(), reply.uci(), mate.uci()]
        board.pop()
    return None


def _legal(board: Board, text: str) -> Move:
    chess = _library()
    try:
        move: Move = chess.Move.from_uci(text)
    except ValueError:
        raise RequestError(f"{shown(text)} is not a move such as e2e4 or e7e8q") from None
    if move not in board.legal_moves:
        raise RequestError(f"{text} is not legal in {board.board_fen()} {'w' if board.turn else 'b'}")
    return move


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


def _mating_move(board: Board) -> Move | None:
    for move in board.legal_moves:
        board.push(move)
        mates = board.is_checkmate()
        board.pop()
        if mates:
            return move
    return None
