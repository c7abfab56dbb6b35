"""The text form of examples: one declaration from which a task's lines are written, read and refused.

Every reason is raised as a ``RequestError`` of one sentence that names neither file nor line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary


@dataclass(frozen=True)
class TextForm:
    """Symbols written one after the other, ``separator`` between two of them unless one is a mark: ``3,1,2=1,2,3``.

    Marks hold single characters in a string, or longer ones in a tuple. With no separator every symbol but a mark is
    one character. A prompt ends with the first of ``ends`` in the line, and what follows is the answer.
    """

    example: str = "3,1,2=1,2,3"
    """A right line, or the scheme of one, for refusals."""
    marks: Sequence[str] = "="
    """Delimiters of prompts."""
    answer_marks: Sequence[str] = ""
    """Delimiters of answers."""
    ends: Sequence[str] = "="
    separator: str = ","
    noun: str = "number"
    """What refusals call a symbol."""
    item: str = ""
    """What refusals call a part that stands beside ``between``, as in "edge 2"."""
    between: str = ""

    def write_prompt(self, symbols: Sequence[str]) -> str:
        """A prompt's text."""
        return self._joined(symbols, self.marks)

    def write_answer(self, symbols: Sequence[str]) -> str:
        """An answer's text, whatever symbols it holds."""
        return self._joined(symbols, self.answer_marks)

    def read(self, line: str, vocab: Vocabulary) -> tuple[list[int], list[int]]:
        """Prompt and answer tokens of a line that is made of symbols; whether they are an example is not looked at.
        Raises ``RequestError`` where the prompt does not end or a part is no symbol."""
        line = line.strip()
        end = re.search("|".join(map(re.escape, self.ends)), line)
        if end is None:
            missing = " or ".join(map(repr, self.ends))
            raise RequestError(f"there is no {missing} where the problem ends; a line reads {self.example}")
        prompt = self._tokens(line[: end.end()], self.marks, vocab, "the prompt")
        return prompt, self._tokens(line[end.end() :], self.answer_marks, vocab, "the answer")

    def _joined(self, symbols: Sequence[str], marks: Sequence[str]) -> str:
        known = frozenset(marks)
        parts = list(symbols[:1])
        for before, symbol in pairwise(symbols):
            parts.append(symbol if before in known or symbol in known else self.separator + symbol)
        return "".join(parts)

    def _tokens(self, text: str, marks: Sequence[str], vocab: Vocabulary, where: str) -> list[int]:
        # Parts and the marks between them, in turn.
        pieces = re.split(f"({'|'.join(map(re.escape, marks))})", text) if marks else [text]
        tokens = []
        for at, piece in enumerate(pieces):
            if not piece:
                continue
            symbols = [piece] if at % 2 else piece.split(self.separator) if self.separator else list(piece)
            for symbol in symbols:
                if symbol not in vocab:
                    raise RequestError(self._unknown(symbol, vocab, self._named(pieces, at) or where))
                tokens.append(vocab.token(symbol))
        return tokens

    def _named(self, pieces: list[str], at: int) -> str:
        """``edge 2``, where a part is one of the ``item``s."""
        beside = [part for part in range(0, len(pieces), 2) if self.between in pieces[max(part - 1, 0) : part + 2]]
        return f"{self.item} {beside.index(at) + 1}" if self.item and at in beside else ""

    def _unknown(self, symbol: str, vocab: Vocabulary, where: str) -> str:
        numbers = [known for known in vocab if known.isdecimal()]
        if not numbers:
            return f"{shown(symbol)} in {where} is not a symbol of the task; a line reads {self.example}"
        if symbol.isascii() and symbol.isdecimal() and (symbol[0] != "0" or symbol == "0"):
            span = f"it must be from {numbers[0]} to {numbers[-1]}"
            return f"{self.noun} {shown(symbol)} in {where} is out of range: {span}"
        return f"{self.noun} {shown(symbol)} in {where} is not a whole number written in plain digits"


def shown(text: str) -> str:
    """The text in quotes, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def difference(written: Sequence[object], right: Sequence[object], right_one: str, noun: str = "symbol") -> str:
    """Where an answer first differs from the one called ``right_one``, or that it has another length."""
    for place, (here, there) in enumerate(zip(written, right, strict=False), 1):
        if here != there:
            return f"{noun} {place} of the answer is {here}, but {right_one} has {there} there"
    return f"the answer has {len(written)} {noun}s, but {right_one} has {len(right)}"


def split_at(tokens: Sequence[int], mark: int) -> list[list[int]]:
    """The parts between the marks; one more than there are marks."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == mark:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def pairs_in(tokens: Sequence[int], mark: int, nodes: int, vocab: Vocabulary) -> list[tuple[int, int]]:
    """Edges ``u,v|u,v|...`` between labels, the tokens below ``nodes``. Raises ``RequestError`` where a part is not two
    of them."""
    found = []
    for number, part in enumerate(split_at(tokens, mark), 1):
        if len(part) != 2 or not all(0 <= token < nodes for token in part):
            edge = shown(",".join(vocab.decode(part)))
            raise RequestError(f"edge {number} is {edge}, but an edge is two labels joined by a comma, as in 3,1")
        found.append((part[0], part[1]))
    return found


def require_prompt(prompt: Sequence[int], right: int) -> None:
    """Raises ``RequestError`` unless a prompt is the one token that every prompt of a task is."""
    if [int(token) for token in prompt] != [right]:
        raise RequestError(f"the prompt holds the tokens {list(prompt)}, but must hold [{right}] alone")
