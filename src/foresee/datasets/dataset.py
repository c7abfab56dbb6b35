"""A data set as a whole: its files, rows and splits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy
from numpy.typing import NDArray

from foresee.core.errors import RequestError
from foresee.core.fingerprints import one_in_eight
from foresee.datasets.checkpoint_tokenizer import CheckpointTokenizer
from foresee.datasets.coding import Coding, cut_of, tokenizer_of
from foresee.datasets.reading import source_of
from foresee.datasets.request import Request
from foresee.datasets.rows import Fields
from foresee.datasets.texts import texts_of
from foresee.datasets.tokens import TokenRows, tokens_of

Rows = NDArray[numpy.int64]


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
        tokenizer = tokenizer_of(request, texts)
        cut = cut_of(request, tokenizer)
        self.train = tokens_of(texts, cut, request.skip_bad)
        self.test: TokenRows | None = None
        if request.test_path is not None:
            test = texts_of(source_of(request.test_path), fields, request.skip_bad)
            self.test = tokens_of(test, cut, request.skip_bad)
        if request.ending == "none":
            self._check_lengths()
        seen = None
        if isinstance(tokenizer, CheckpointTokenizer) and request.tokens == "seen":
            seen = numpy.unique(numpy.concatenate([part.seen for part in self.parts])).astype(numpy.int64)
        self.coding = Coding(tokenizer, cut.framing, request.path, seen)

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
            held[numpy.arange(tokens.shape[1]) < own[:, None]] = self.coding.stored_numbers(flat)
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

    def responses_to(self, prompt: Sequence[int]) -> list[list[int]]:
        """Every stored response to a prompt, in the order of the files; the same one may come several times."""
        asked = self.coding.raw(numpy.array(prompt, numpy.int64)).tolist() if len(prompt) else []
        found = []
        for part in self.parts:
            found += [self.coding.numbers(part.pair(row)[1]) for row in part.with_prompt(asked)]
        return found
