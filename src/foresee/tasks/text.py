"""The text form of examples: one declaration from which a task's lines are written, read and refused.

Every reason is raised as a ``RequestError`` of one sentence that names neither file nor line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary


@dataclass(frozen=True)
class TextForm:
    """Symbols written one after the other, ``separator`` between two of them unless one is a mark: ``3,1,2=1,2,3``.

    A prompt ends with the first of ``ends`` in the line, and what follows is the answer. With no separator every symbol
    but a mark is one character. ``marks`` and ``answer_marks`` are the delimiters of prompts and of answers. The other
    fields are for refusals: ``example`` is a right line, or the scheme of one; ``noun`` is what a symbol is called, and
    ``item`` a part of a list that stands beside the mark ``between``, as in "edge 2".
    """

    example: str = "3,1,2=1,2,3"
    marks: tuple[str, ...] = ("=",)
    answer_marks: tuple[str, ...] = ()
    ends: tuple[str, ...] = ("=",)
    separator: str = ","
    noun: str = "number"
    item: str = ""
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
        end = _pattern(self.ends).search(line)
        if end is None:
            missing = " or ".join(map(repr, self.ends))
            raise RequestError(f"there is no {missing} where the problem ends; a line reads {self.example}")
        prompt = self._tokens(line[: end.end()], self.marks, vocab, "the prompt")
        return prompt, self._tokens(line[end.end() :], self.answer_marks, vocab, "the answer")

    def _joined(self, symbols: Sequence[str], marks: tuple[str, ...]) -> str:
        parts, glued = [], True
        for symbol in symbols:
            mark = symbol in marks
            parts.append(symbol if glued or mark else self.separator + symbol)
            glued = mark
        return "".join(parts)

    def _tokens(self, text: str, marks: tuple[str, ...], vocab: Vocabulary, where: str) -> list[int]:
        pieces = _pattern(marks).split(text)  # parts and the marks between them, in turn
        symbols: list[str] = []
        for at, piece in enumerate(pieces):
            if at % 2:
                symbols.append(piece)
            elif piece:
                symbols += self._symbols(piece)
        try:
            return vocab.encode(symbols)
        except RequestError:
            raise RequestError(self._unknown(pieces, vocab, where)) from None

    def _symbols(self, piece: str) -> list[str]:
        return piece.split(self.separator) if self.separator else list(piece)

    def _unknown(self, pieces: list[str], vocab: Vocabulary, where: str) -> str:
        """Why the first symbol that is not in the vocabulary is not, and in which part it stands."""
        parts = range(0, len(pieces), 2)
        at, symbol = next((at, s) for at in parts if pieces[at] for s in self._symbols(pieces[at]) if s not in vocab)
        items = [part for part in parts if self.item and self.between in pieces[max(part - 1, 0) : part + 2]]
        if at in items:
            where = f"{self.item} {items.index(at) + 1}"
        numbers = [known for known in vocab if known.isdecimal()]
        if not numbers:
            return f"{shown(symbol)} in {where} is not a symbol of the task; a line reads {self.example}"
        if symbol.isascii() and symbol.isdecimal() and (symbol[0] != "0" or symbol == "0"):
            span = f"it must be from {numbers[0]} to {numbers[-1]}"
            return f"{self.noun} {shown(symbol)} in {where} is out of range: {span}"
        return f"{self.noun} {shown(symbol)} in {where} is not a whole number written in plain digits"


@lru_cache
def _pattern(marks: tuple[str, ...]) -> re.Pattern[str]:
    """Any of these, as a group of its own; nothing at all where there are none."""
    return re.compile(f"({'|'.join(map(re.escape, marks))})" if marks else "(?!)")


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
