"""How the texts of a data set become a task's tokens and back: what a run keeps, so that its model needs no data file.

A tokenizer numbers all that it knows; a task's vocabulary holds what occurs, so that a checkpoint's tokenizer of 50,000
tokens does not make a table of 50,000 rows for a data set that uses 300 of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.core.vocabulary import CheckpointTokens, Vocabulary
from foresee.datasets.cache import Rows
from foresee.datasets.fields import Fields
from foresee.datasets.request import Request
from foresee.datasets.tokenizers import CheckpointTokenizer, PieceTokenizer, Tokenizer


class Kept(TypedDict):
    """A coding as JSON, with the fields that it was learned from. ``pieces`` are the known characters or words, ``ids``
    the tokens of a checkpoint's tokenizer that are symbols of the task, and ``tokenizer`` a digest of that tokenizer,
    empty for others."""

    fields: tuple[str, str, str | None, Literal["last", "all"]]
    tokenizer: str
    pieces: list[str]
    ids: list[int]
    longest: tuple[int, int]
    chance: float


KEPT = TypeAdapter(Kept)


@dataclass(frozen=True)
class Coding:
    """A tokenizer, and which of its tokens a task has."""

    tokenizer: Tokenizer
    ids: Rows
    """[V] the tokenizer's number of each token of the vocabulary, ascending."""
    longest: tuple[int, int]
    """Tokens of the longest prompt and response, framing included."""
    chance: float
    """The share of rows that hold the most frequent response without an unknown token."""

    @cached_property
    def vocab(self) -> Vocabulary:
        """Every symbol that prompts and responses may hold."""
        symbols, checkpoint = self.tokenizer.symbols, None
        if isinstance(self.tokenizer, CheckpointTokenizer):
            symbols = tuple(symbols[token] for token in self.ids.tolist())
            checkpoint = CheckpointTokens(self.tokenizer.digest, self.tokenizer.path, tuple(self.ids.tolist()))
        return Vocabulary(symbols, checkpoint)

    @cached_property
    def number_of(self) -> Rows:
        """[the tokenizer's tokens] the vocabulary's number of each; -1 where it has none."""
        numbers: Rows = numpy.full(len(self.tokenizer.symbols), -1)
        numbers[self.ids] = numpy.arange(len(self.ids))
        return numbers

    @property
    def end(self) -> int | None:
        """The token that ends a response, where there is one."""
        return None if self.tokenizer.end is None else int(self.number_of[self.tokenizer.end])

    def encode(self, prompt: str, response: str | None) -> tuple[list[int], list[int]]:
        """Cuts a row into the vocabulary's tokens, with their frame; no response gives no tokens. Raises
        ``RequestError`` on a token that is not in the vocabulary."""
        cut = self.tokenizer
        asked, answer = (cut.encode([text])[0].tolist() for text in (prompt, response or ""))
        asked = [*cut.before, *asked, *cut.after]
        tokens = asked + (answer + ([] if cut.end is None else [cut.end]) if response else [])
        numbers: list[int] = self.number_of[tokens].tolist()
        if -1 in numbers:
            symbol = cut.symbols[tokens[numbers.index(-1)]]
            raise RequestError(
                f"data: the token {symbol!r} does not occur in the data, so it is none of this task's; tokens=all "
                "keeps every token of the tokenizer"
            )
        return numbers[: len(asked)], numbers[len(asked) :]

    def decode(self, prompt: Sequence[int], response: Sequence[int]) -> tuple[str, str]:
        """Writes a prompt without its frame, and a response up to its end. Symbols that an objective added are left
        out."""
        sides = ([int(token) for token in side if 0 <= token < len(self.ids)] for side in (prompt, response))
        asked, answer = (self.ids[side].tolist() for side in sides)
        before, end = list(self.tokenizer.before), self.tokenizer.end
        asked = asked[len(before) :] if asked[: len(before)] == before else asked
        answer = answer[: answer.index(end)] if end in answer else answer
        return self.tokenizer.decode(asked), self.tokenizer.decode(answer)

    def keep(self, fields: Fields) -> Kept:
        """Gives what ``read`` makes it anew from."""
        own = isinstance(self.tokenizer, CheckpointTokenizer)
        return {
            "fields": (*fields,), "tokenizer": self.tokenizer.digest, "pieces": self.tokenizer.known,
            "ids": self.ids.tolist() if own else [], "longest": self.longest, "chance": self.chance,
        }  # fmt: skip

    @staticmethod
    def read(path: Path, request: Request) -> tuple[Coding, Fields]:
        """Makes a coding anew, with the fields of its rows. Raises ``RequestError`` where the file is damaged, or a
        checkpoint's tokenizer is gone or has changed."""
        try:
            kept = KEPT.validate_json(path.read_bytes(), strict=True)
        except (ValidationError, OSError) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise files.damaged(path, why) from None
        tokenizer: Tokenizer = (
            CheckpointTokenizer(request) if request.checkpoint else PieceTokenizer(request, kept["pieces"])
        )
        if tokenizer.digest != kept["tokenizer"]:
            raise RequestError(f"the tokenizer of {request.checkpoint} is not the one that this run was trained with")
        ids = numpy.array(kept["ids"]) if request.checkpoint else numpy.arange(len(tokenizer.symbols))
        if not len(ids) or ids.min() < 0 or ids.max() >= len(tokenizer.symbols) or len(set(ids.tolist())) < len(ids):
            raise files.damaged(path, "'ids' must be different tokens of the tokenizer")
        return Coding(tokenizer, ids, kept["longest"], kept["chance"]), Fields(*kept["fields"])
