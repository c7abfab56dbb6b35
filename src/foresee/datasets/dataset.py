"""A data set as a whole: its files, tokenizer, vocabulary, rows and splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy
from numpy.typing import NDArray

from foresee import files
from foresee.datasets.cache import cached, key_of
from foresee.datasets.checkpoint_tokenizer import CheckpointTokenizer
from foresee.datasets.framing import END, RESPONSE, Framing
from foresee.datasets.reading import held_out_split_of, source_of
from foresee.datasets.rows import Fields
from foresee.datasets.texts import Texts, texts_of
from foresee.datasets.tokenizers import Bytes, Characters, Tokenizer, Words
from foresee.datasets.tokens import Cut, TokenRows, tokens_of
from foresee.errors import RequestError
from foresee.mixing import one_in_eight
from foresee.vocabulary import CheckpointTokens, Vocabulary

Boundary = Literal["auto", "symbol", "none"]
Ending = Literal["symbol", "none"]
Kept = Literal["seen", "all"]
Rows = NDArray[numpy.int64]

CHECKPOINT = "hf:"
TOKENIZERS = ("characters", "bytes", "words")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which data set: the options of the task ``data``, which says what each means."""

    path: str
    prompt: str
    response: str
    tokenizer: str
    test: str | None
    vocabulary: int
    tokens: Kept
    boundary: Boundary
    ending: Ending
    max_prompt: int | None
    max_response: int | None
    skip_bad: bool

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS and not self.tokenizer.removeprefix(CHECKPOINT) != self.tokenizer:
            raise RequestError(
                f"data: tokenizer={self.tokenizer} must be one of {', '.join(TOKENIZERS)} and hf:CHECKPOINT"
            )
        for name in ("vocabulary", "max_prompt", "max_response"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"data: {name}={value} must be at least 1")

    @property
    def test_path(self) -> str | None:
        """The file or folder of the test rows, where they are not taken from ``path``."""
        return self.test or held_out_split_of(self.path)

    def digest(self) -> str:
        """16 hexadecimal characters of everything that is read: data files and a checkpoint's tokenizer."""
        read = [source_of(self.path).digest]
        if self.test_path is not None:
            read.append(source_of(self.test_path).digest)
        if self.tokenizer.startswith(CHECKPOINT):
            from foresee.backbones.hf_loading import checkpoint_folder, tokenizer_digest

            read.append(tokenizer_digest(checkpoint_folder(self.tokenizer.removeprefix(CHECKPOINT))))
        return key_of("request", *read)[:16]


class DataSet:
    """The rows of a file, or of two: those of the first are numbered from 0, those of the test file after them.

    With a test file, rows of the first whose prompt is in it belong to the test split too, and to neither the rows
    that are trained on nor those that are tested on.
    """

    def __init__(self, request: Request) -> None:
        """Reads, or finds in the cache. Raises ``RequestError`` on a file, a row or a tokenizer that cannot be used."""
        self.request = request
        fields = Fields(request.prompt, request.response)
        texts = texts_of(source_of(request.path), fields, request.skip_bad)
        self.tokenizer = self._tokenizer(texts)
        cut = self._cut()
        self.framing = cut.framing
        self.train = tokens_of(texts, cut, request.skip_bad)
        self.test: TokenRows | None = None
        if request.test_path is not None:
            test = texts_of(source_of(request.test_path), fields, request.skip_bad)
            self.test = tokens_of(test, cut, request.skip_bad)
        if request.ending == "none":
            self._check_lengths()

    def _check_lengths(self) -> None:
        """Raises ``RequestError`` unless all responses have one length, by which it is known where each ends."""
        length = self.train.longest_response
        for part in self.parts:
            row = part.odd_response(length)
            if row is not None:
                raise RequestError(
                    f"data: ending=none needs responses of one length, but {part.place(row)} has one of "
                    f"{part.lengths(numpy.array([row]))[0, 1]} tokens and others have {length}; use ending=symbol"
                )

    def _tokenizer(self, texts: Texts) -> Tokenizer:
        kind = self.request.tokenizer
        if kind.startswith(CHECKPOINT):
            return CheckpointTokenizer(kind.removeprefix(CHECKPOINT))
        if kind == "bytes":
            return Bytes()
        key = key_of("vocabulary", texts.key, kind, self.request.vocabulary)

        def build(folder: Path) -> dict[str, int]:
            limit = self.request.vocabulary
            learnt = (Characters if kind == "characters" else Words).learnt(texts.blocks(), limit)
            files.write_json(folder / "known.json", list(learnt.known))
            return {"symbols": len(learnt.known)}

        known = _known(cached("vocabularies", key, build, lambda folder: _known(folder) is not None))
        assert known is not None
        return Characters("".join(known)) if kind == "characters" else Words(known)

    def _cut(self) -> Cut:
        tokenizer, request = self.tokenizer, self.request
        size = len(tokenizer.symbols)
        if isinstance(tokenizer, CheckpointTokenizer):
            import tokenizers

            # No symbol between: a checkpoint was never shown one, and rows of its table are its own.
            if request.boundary == "symbol":
                raise RequestError(
                    "data: boundary=symbol is not for a checkpoint's tokenizer; end the prompts as you like"
                )
            framing = Framing(tokenizer.before, (), tokenizer.end if request.ending == "symbol" else None)
            key = ["checkpoint", tokenizer.digest, tokenizers.__version__]
        else:
            between = () if request.boundary == "none" else (size,)
            framing = Framing((), between, size + 1 if request.ending == "symbol" else None)
            key = [request.tokenizer, key_of(list(tokenizer.symbols))]
            size += 2
        return Cut(tokenizer, key, framing, size, request.max_prompt, request.max_response)

    # Tokens ---------------------------------------------------------------------------------------------------------

    @cached_property
    def vocab(self) -> Vocabulary:
        """The symbols of the tokens that batches hold."""
        tokenizer = self.tokenizer
        if not isinstance(tokenizer, CheckpointTokenizer):
            return Vocabulary((*tokenizer.symbols, RESPONSE, END))
        ids = self._kept.tolist()
        symbols = tokenizer.symbols
        return Vocabulary(
            tuple(symbols[token] for token in ids), CheckpointTokens(tokenizer.digest, tokenizer.path, tuple(ids))
        )

    @cached_property
    def _kept(self) -> Rows:
        """[V] the tokenizer's number of each token of the vocabulary."""
        if not isinstance(self.tokenizer, CheckpointTokenizer):
            return numpy.arange(len(self.tokenizer.symbols) + 2)
        if self.request.tokens == "all":
            return numpy.arange(len(self.tokenizer.symbols))
        return numpy.unique(numpy.concatenate([part.seen for part in self.parts])).astype(numpy.int64)

    @cached_property
    def _numbered(self) -> Rows | None:
        """[the tokenizer's tokens] their number in the vocabulary (-1: none); None where they are the same."""
        if not isinstance(self.tokenizer, CheckpointTokenizer) or self.request.tokens == "all":
            return None
        numbers = numpy.full(len(self.tokenizer.symbols), -1, numpy.int64)
        numbers[self._kept] = numpy.arange(len(self._kept))
        return numbers

    @property
    def end(self) -> int | None:
        """The token that ends a response, where there is one."""
        return None if self.framing.end is None else self._in([self.framing.end])[0]

    def _in(self, tokens: Sequence[int]) -> list[int]:
        if self._numbered is None:
            return list(tokens)
        numbers: list[int] = self._numbered[list(tokens)].tolist()
        if -1 in numbers:
            symbol = self.tokenizer.symbols[list(tokens)[numbers.index(-1)]]
            raise RequestError(
                f"data: the token {symbol!r} does not occur in {self.request.path}, so it is none of this task's; "
                "tokens=all keeps every token of the tokenizer"
            )
        return numbers

    def _out(self, tokens: Sequence[int]) -> list[int]:
        """The tokenizer's numbers; symbols that an objective added have none and are left out."""
        return [int(self._kept[token]) for token in tokens if 0 <= token < len(self.vocab)]

    def encode_prompt(self, text: str) -> list[int]:
        """A prompt's tokens with their framing. Raises ``RequestError`` on a token that is not in the vocabulary."""
        return self._in(self.framing.prompt(self.tokenizer.encode(text)))

    def encode_response(self, text: str) -> list[int]:
        """A response's tokens and its end. Raises ``RequestError`` as ``encode_prompt`` does."""
        return self._in(self.framing.response(self.tokenizer.encode(text)))

    def decode_prompt(self, tokens: Sequence[int]) -> str:
        """The text of a prompt."""
        return self.tokenizer.decode(self.framing.bare_prompt(self._out(tokens)))

    def decode_response(self, tokens: Sequence[int]) -> str:
        """The text of a response up to its end."""
        return self.tokenizer.decode(self.framing.bare_response(self._out(tokens)))

    # Rows -----------------------------------------------------------------------------------------------------------

    @property
    def parts(self) -> list[TokenRows]:
        """The rows of the file, and of the test file where there is one."""
        return [self.train] if self.test is None else [self.train, self.test]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @cached_property
    def leaked(self) -> NDArray[numpy.bool_]:
        """[rows of the first file] which have a prompt that is in the test file."""
        if self.test is None:
            return numpy.zeros(len(self.train), numpy.bool_)
        return numpy.isin(self.train.prompts, self.test.prompts)

    @cached_property
    def train_rows(self) -> Rows:
        """Numbers of the rows that are trained on."""
        if self.test is not None:
            return numpy.flatnonzero(~self.leaked)
        return numpy.flatnonzero(~one_in_eight(self.train.prompts))

    @cached_property
    def test_rows(self) -> Rows:
        """Numbers of the rows that are tested on."""
        if self.test is not None:
            return numpy.arange(len(self.train), len(self))
        return numpy.flatnonzero(one_in_eight(self.train.prompts))

    def in_test(self, prompts: NDArray[numpy.uint64]) -> NDArray[numpy.bool_]:
        """[B] fingerprints of prompts -> which belong to the test split."""
        return one_in_eight(prompts) if self.test is None else numpy.isin(prompts, self.test.prompts)

    def lengths(self, rows: Rows) -> Rows:
        """[n] numbers of rows -> [n, 2] tokens of prompt and response."""
        found = numpy.empty((len(rows), 2), numpy.int64)
        for part, inside, local in self._by_part(rows):
            found[inside] = part.lengths(local)
        return found

    def gather(self, rows: Rows) -> tuple[Rows, Rows]:
        """Tokens [n, T] of rows, padded with 0 to the longest, and their lengths [n, 2]."""
        lengths = self.lengths(rows)
        totals = lengths.sum(1)
        tokens = numpy.zeros((len(rows), int(totals.max(initial=0))), numpy.int64)
        for part, inside, local in self._by_part(rows):
            own = totals[inside]
            firsts = part.bounds(local)[:, 0] - (numpy.cumsum(own) - own)
            flat = part.tokens[numpy.repeat(firsts, own) + numpy.arange(own.sum())]
            held = numpy.zeros((len(own), tokens.shape[1]), numpy.int64)
            held[numpy.arange(tokens.shape[1]) < own[:, None]] = (
                flat if self._numbered is None else self._numbered[flat]
            )
            tokens[inside] = held
        return tokens, lengths

    def _by_part(self, rows: Rows) -> list[tuple[TokenRows, Rows, Rows]]:
        """For each file with rows among ``rows``: its rows' places there, and their numbers in it."""
        found, start = [], 0
        for part in self.parts:
            inside = numpy.flatnonzero((rows >= start) & (rows < start + len(part)))
            if len(inside):
                found.append((part, inside, rows[inside] - start))
            start += len(part)
        return found

    def raw(self, tokens: Rows) -> Rows:
        """Tokens of the vocabulary as the tokenizer's, of which fingerprints are made."""
        return tokens if self._numbered is None else self._kept[tokens]

    def responses_to(self, prompt: Sequence[int]) -> list[list[int]]:
        """Every stored response to a prompt, in the order of the files; the same one may come several times."""
        asked = self.raw(numpy.array(prompt, numpy.int64)).tolist() if len(prompt) else []
        found = []
        for part in self.parts:
            found += [self._in(part.pair(row)[1]) for row in part.with_prompt(asked)]
        return found


def _known(folder: Path) -> list[str] | None:
    try:
        known = json.loads((folder / "known.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, list) and all(isinstance(symbol, str) for symbol in known) else None
