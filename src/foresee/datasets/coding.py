"""Between the texts of a data set and the tokens of its task.

A tokenizer numbers all that it knows; a task's vocabulary holds what occurs, so that a checkpoint's tokenizer of 50,000
tokens does not make a table of 50,000 rows for a data set that uses 300 of them. ``Coding`` goes both ways.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy
from numpy.typing import NDArray

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.core.vocabulary import CheckpointTokens, Vocabulary
from foresee.datasets.cache import cached, key_of
from foresee.datasets.checkpoint_tokenizer import CheckpointTokenizer
from foresee.datasets.framing import END, RESPONSE, Framing
from foresee.datasets.request import CHECKPOINT, Request
from foresee.datasets.texts import Texts
from foresee.datasets.tokenizers import Bytes, Characters, Tokenizer, Words
from foresee.datasets.tokens import Cut

Tokens = NDArray[numpy.int64]


def tokenizer_of(request: Request, texts: Texts) -> Tokenizer:
    """The tokenizer that is asked for; characters and words are learnt from the texts, once for each content."""
    kind = request.tokenizer
    if kind.startswith(CHECKPOINT):
        return CheckpointTokenizer(kind.removeprefix(CHECKPOINT))
    if kind == "bytes":
        return Bytes()
    key = key_of("vocabulary", texts.key, kind, request.vocabulary)

    def build(folder: Path) -> dict[str, int]:
        learnt = (Characters if kind == "characters" else Words).learnt(texts.blocks(), request.vocabulary)
        files.write_json(folder / "known.json", list(learnt.known))
        return {"symbols": len(learnt.known)}

    known = _known(cached("vocabularies", key, build, lambda folder: _known(folder) is not None))
    assert known is not None
    return Characters("".join(known)) if kind == "characters" else Words(known)


def _known(folder: Path) -> list[str] | None:
    try:
        known = json.loads((folder / "known.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, list) and all(isinstance(symbol, str) for symbol in known) else None


def cut_of(request: Request, tokenizer: Tokenizer) -> Cut:
    """How the texts become rows of tokens. Raises ``RequestError`` on a boundary that the tokenizer cannot write."""
    size = len(tokenizer.symbols)
    if isinstance(tokenizer, CheckpointTokenizer):
        import tokenizers

        # No symbol between: a checkpoint was never shown one, and rows of its table are its own.
        if request.boundary == "symbol":
            raise RequestError("data: boundary=symbol is not for a checkpoint's tokenizer; end the prompts as you like")
        framing = Framing(tokenizer.before, (), tokenizer.end if request.ending == "symbol" else None)
        key = ["checkpoint", tokenizer.digest, tokenizers.__version__]
    else:
        between = () if request.boundary == "none" else (size,)
        framing = Framing((), between, size + 1 if request.ending == "symbol" else None)
        key = [request.tokenizer, key_of(list(tokenizer.symbols))]
        size += 2
    return Cut(tokenizer, key, framing, size, request.max_prompt, request.max_response)


@dataclass(frozen=True)
class Coding:
    """Texts to the task's tokens and back."""

    tokenizer: Tokenizer
    framing: Framing
    path: str
    """The data set, as a refusal names it."""
    seen: Tokens | None
    """[V] the tokenizer's tokens that the vocabulary holds, ascending; None: all."""

    @cached_property
    def vocab(self) -> Vocabulary:
        """The symbols of the tokens that batches hold."""
        tokenizer = self.tokenizer
        if not isinstance(tokenizer, CheckpointTokenizer):
            return Vocabulary((*tokenizer.symbols, RESPONSE, END))
        symbols = tokenizer.symbols
        ids = range(len(symbols)) if self.seen is None else self.seen.tolist()
        return Vocabulary(
            tuple(symbols[token] for token in ids), CheckpointTokens(tokenizer.digest, tokenizer.path, tuple(ids))
        )

    @cached_property
    def _numbered(self) -> Tokens | None:
        """[the tokenizer's tokens] their number in the vocabulary (-1: none); None where they are the same."""
        if self.seen is None:
            return None
        numbers = numpy.full(len(self.tokenizer.symbols), -1, numpy.int64)
        numbers[self.seen] = numpy.arange(len(self.seen))
        return numbers

    @property
    def end(self) -> int | None:
        """The token that ends a response, where there is one."""
        return None if self.framing.end is None else self.numbers([self.framing.end])[0]

    def numbers(self, tokens: Sequence[int]) -> list[int]:
        """Tokens of the tokenizer as those of the vocabulary. Raises ``RequestError`` on one that is not in it."""
        if self._numbered is None:
            return list(tokens)
        numbers: list[int] = self._numbered[list(tokens)].tolist()
        if -1 in numbers:
            symbol = self.tokenizer.symbols[list(tokens)[numbers.index(-1)]]
            raise RequestError(
                f"data: the token {symbol!r} does not occur in {self.path}, so it is none of this task's; "
                "tokens=all keeps every token of the tokenizer"
            )
        return numbers

    def stored_numbers(self, tokens: Tokens) -> Tokens:
        """[n] tokens of stored rows, which are all in the vocabulary, as those of the vocabulary."""
        return tokens if self._numbered is None else self._numbered[tokens]

    def raw(self, tokens: Tokens) -> Tokens:
        """Tokens of the vocabulary as the tokenizer's, of which fingerprints are made."""
        return tokens if self.seen is None else self.seen[tokens]

    def encode_prompt(self, text: str) -> list[int]:
        """A prompt's tokens with their framing. Raises ``RequestError`` on a token that is not in the vocabulary."""
        return self.numbers(self.framing.prompt(self.tokenizer.encode(text)))

    def encode_response(self, text: str) -> list[int]:
        """A response's tokens and its end. Raises ``RequestError`` as ``encode_prompt`` does."""
        return self.numbers(self.framing.response(self.tokenizer.encode(text)))

    def decode_prompt(self, tokens: Sequence[int]) -> str:
        """The text of a prompt."""
        return self.tokenizer.decode(self.framing.bare_prompt(self._written(tokens)))

    def decode_response(self, tokens: Sequence[int]) -> str:
        """The text of a response up to its end."""
        return self.tokenizer.decode(self.framing.bare_response(self._written(tokens)))

    def _written(self, tokens: Sequence[int]) -> list[int]:
        """The tokenizer's numbers; symbols that an objective added have none and are left out."""
        known = [int(token) for token in tokens if 0 <= token < len(self.vocab)]
        return known if self.seen is None else self.seen[known].tolist()
