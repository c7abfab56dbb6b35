"""The rows of a data set as tokens in the cache, and its splits.

Arrow tables of Hugging Face's ``datasets`` would hold the same, but take 5 ms to read 128 rows at random, not 0.1 ms.

A tokenizer numbers all that it knows; a task's vocabulary holds what occurs, so that a checkpoint's tokenizer of 50,000
tokens does not make a table of 50,000 rows for a data set that uses 300 of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint_ragged, one_in_eight
from foresee.core.vocabulary import CheckpointTokens, Vocabulary
from foresee.datasets.cache import Array, append, key_of, load_or_build, map_array
from foresee.datasets.request import Request
from foresee.datasets.sources import BadRow, digest_of, name_place, read_rows, refuse
from foresee.datasets.tokenizers import CheckpointTokenizer, PieceTokenizer, Tokenizer

Rows = NDArray[numpy.int64]

AT_ONCE = 1024
"""Rows that are cut at a time."""

BAD_SHOWN = 100
"""Bad rows that are kept in full; the others are only counted."""


class DataSet:
    """The rows of a file, and after them those of the test file where there is one.

    With a test file, rows of the first whose prompt is in it belong to the test split too, and to neither the rows
    that are trained on nor those that are tested on.
    """

    def __init__(self, request: Request) -> None:
        """Reads, or finds in the cache. Raises ``RequestError`` on a file, a row or a tokenizer that cannot be used."""
        self.request = request
        train, test = request.files()
        self.files = [*train, *test]
        self.tokenizer: Tokenizer = (
            CheckpointTokenizer(request) if request.checkpoint else PieceTokenizer(request, train)
        )
        frame = (self.tokenizer.before, self.tokenizer.after, self.tokenizer.end)
        read = [digest_of(files) for files in (train, test) if files]
        key = key_of("rows", read, request.fields, self.tokenizer.key, frame, request.max_prompt, request.max_response)
        folder, meta = load_or_build(
            "rows", key, lambda place: _build(place, request, self.tokenizer, self.files, len(train))
        )
        self.bad = [BadRow(*row) for row in meta["bad"]]
        """The first of the bad rows, which are not among the rows."""
        if self.bad and not request.skip_bad:
            raise refuse(self.files, self.bad[0])
        self.bad_counts: dict[str, int] = meta["bad_counts"]
        """Bad rows by kind of reason."""
        self.file_starts: list[int] = meta["file_starts"]
        """The first row of each file."""
        self.tokens: Array = map_array(folder, "tokens")
        """[all tokens] the tokenizer's, row by row: prompt, response, prompt, ..., each with its framing."""
        self.ends: Rows = map_array(folder, "ends")
        """[2 * rows] where each of those ends."""
        self.numbers: Rows = map_array(folder, "numbers")
        """[rows] their lines or rows in their files, from 1."""
        self.prompts: Fingerprints = map_array(folder, "prompts")
        self.responses: Fingerprints = map_array(folder, "responses")
        self.order: Rows = map_array(folder, "order")
        """[rows] the rows by the fingerprints of their prompts; equal ones in the order of the file."""
        self.counts: Rows = map_array(folder, "counts")
        """[the tokenizer's tokens] how often each occurs."""
        self.longest_prompt, self.longest_response = map(int, meta["longest"])
        self.train_rows: int = meta["train_rows"]
        """Rows of the first file."""
        self.majority: float = meta["majority"]
        """The share of them that hold the most frequent response."""
        if request.ending == "none":
            self._check_lengths()
        self.ids: Rows = numpy.arange(len(self.counts))
        """[V] the tokenizer's number of each token of the vocabulary, ascending."""
        checkpoint, symbols = None, self.tokenizer.symbols
        if isinstance(self.tokenizer, CheckpointTokenizer):
            if request.tokens == "seen":
                self.ids = numpy.flatnonzero(self.counts)
            symbols = tuple(symbols[token] for token in self.ids.tolist())
            checkpoint = CheckpointTokens(self.tokenizer.digest, self.tokenizer.path, tuple(self.ids.tolist()))
        self.vocab = Vocabulary(symbols, checkpoint)
        self._number_of: Rows = numpy.full(len(self.counts), -1)
        self._number_of[self.ids] = numpy.arange(len(self.ids))

    def _check_lengths(self) -> None:
        """Raises ``RequestError`` unless all responses have one length, by which it is known where each ends."""
        lengths = self.ends[1::2] - self.ends[0::2]
        if len(odd := numpy.flatnonzero(lengths != self.longest_response)):
            place = name_place(self.files, *self.place(int(odd[0])))
            raise RequestError(
                f"data: ending=none needs responses of one length, but {place} has one of {lengths[odd[0]]} tokens and "
                f"others have {self.longest_response}; use ending=symbol"
            )

    # Rows

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def leaked(self) -> Rows:
        """Numbers of the first file's rows with a prompt that is in the test file."""
        return numpy.flatnonzero(numpy.isin(self.prompts[: self.train_rows], self.prompts[self.train_rows :]))

    def split(self, split: Literal["train", "test"]) -> Rows:
        """Numbers of the rows that are trained on, or tested on."""
        if self.train_rows == len(self):
            return numpy.flatnonzero(one_in_eight(self.prompts) == (split == "test"))
        if split == "test":
            return numpy.arange(self.train_rows, len(self))
        return numpy.delete(numpy.arange(self.train_rows), self.leaked)

    def in_test(self, prompts: Fingerprints) -> NDArray[numpy.bool_]:
        """[B] fingerprints of prompts -> which belong to the test split."""
        if self.train_rows == len(self):
            return one_in_eight(prompts)
        return numpy.isin(prompts, self.prompts[self.train_rows :])

    def place(self, row: int) -> tuple[int, int]:
        """Which file a row is in, from 0, and its number there, from 1."""
        return bisect_right(self.file_starts, row) - 1, int(self.numbers[row])

    def bounds(self, rows: Rows) -> Rows:
        """[n] numbers of rows -> [n, 3]: where prompts start in ``tokens``, responses start, and responses end."""
        starts = numpy.where(rows > 0, self.ends[2 * rows - 1], 0)
        return numpy.stack((starts, self.ends[2 * rows], self.ends[2 * rows + 1]), 1)

    def lengths(self, rows: Rows) -> Rows:
        """[n] numbers of rows -> [n, 2] tokens of prompt and response."""
        return numpy.diff(self.bounds(rows), axis=1)

    def gather(self, rows: Rows) -> tuple[Rows, Rows]:
        """Reads tokens [n, T] of rows, padded with 0 to the longest, and their lengths [n, 2]."""
        bounds = self.bounds(rows)
        lengths = bounds[:, 2] - bounds[:, 0]
        tokens = numpy.zeros((len(rows), int(lengths.max(initial=0))), numpy.int64)
        firsts = bounds[:, 0] - (numpy.cumsum(lengths) - lengths)
        flat = self.tokens[numpy.repeat(firsts, lengths) + numpy.arange(lengths.sum())]
        tokens[numpy.arange(tokens.shape[1]) < lengths[:, None]] = self._number_of[flat]
        return tokens, numpy.diff(bounds, axis=1)

    def pair(self, row: int) -> tuple[list[int], list[int]]:
        """Prompt and response of a row."""
        tokens, ((prompt, _),) = self.gather(numpy.array([row]))
        return tokens[0, :prompt].tolist(), tokens[0, prompt:].tolist()

    def responses_to(self, prompt: Sequence[int]) -> list[list[int]]:
        """Finds every stored response to a prompt, in the order of the files; the same one may come several times."""
        word = fingerprint_ragged(self.ids[list(prompt)], numpy.array([len(prompt)]))
        first = int(numpy.searchsorted(self.prompts, word, "left", sorter=self.order)[0])
        last = int(numpy.searchsorted(self.prompts, word, "right", sorter=self.order)[0])
        pairs = map(self.pair, self.order[first:last].tolist())
        return [response for found, response in pairs if found == list(prompt)]

    # Texts

    @property
    def end(self) -> int | None:
        """The token that ends a response, where there is one."""
        return None if self.tokenizer.end is None else int(self._number_of[self.tokenizer.end])

    def encode_prompt(self, text: str) -> list[int]:
        """A prompt's tokens with their framing. Raises ``RequestError`` on a token that is not in the vocabulary."""
        return self._numbered(self.tokenizer.frame_prompt(*self.tokenizer.encode([text])))

    def encode_response(self, text: str) -> list[int]:
        """A response's tokens and its end. Raises ``RequestError`` as ``encode_prompt`` does."""
        return self._numbered(self.tokenizer.frame_response(*self.tokenizer.encode([text])))

    def _numbered(self, tokens: list[int]) -> list[int]:
        numbers: list[int] = self._number_of[tokens].tolist()
        if -1 in numbers:
            symbol = self.tokenizer.symbols[tokens[numbers.index(-1)]]
            raise RequestError(
                f"data: the token {symbol!r} does not occur in {self.request.path}, so it is none of this task's; "
                "tokens=all keeps every token of the tokenizer"
            )
        return numbers

    def decode_prompt(self, tokens: Sequence[int]) -> str:
        """The text of a prompt."""
        return self.tokenizer.decode_prompt(self._known(tokens))

    def decode_response(self, tokens: Sequence[int]) -> str:
        """The text of a response up to its end."""
        return self.tokenizer.decode_response(self._known(tokens))

    def _known(self, tokens: Sequence[int]) -> list[int]:
        """The tokenizer's numbers; symbols that an objective added have none and are left out."""
        known: list[int] = self.ids[[int(token) for token in tokens if 0 <= token < len(self.ids)]].tolist()
        return known


def _build(folder: Path, request: Request, tokenizer: Tokenizer, files: list[Path], train: int) -> dict[str, Any]:
    """Cuts the rows of ``files``, of which the first ``train`` are not the test files, and writes the arrays."""
    kind = numpy.min_scalar_type(len(tokenizer.symbols) - 1)
    bad: list[BadRow] = []
    bad_counts: Counter[str] = Counter()
    counts = numpy.zeros(len(tokenizer.symbols), numpy.int64)
    longest = numpy.zeros(2, numpy.int64)
    file_starts: list[int] = []
    kept = at = 0
    rows = read_rows(files, request.fields)
    while block := list(islice(rows, AT_ONCE)):
        texts = [text for row in block if not isinstance(row, BadRow) for text in (row.prompt, row.response)]
        cuts = iter(tokenizer.encode(texts) if texts else ())
        sides: list[list[int]] = []
        numbers: list[int] = []
        for row in block:
            file_starts += [kept + len(numbers)] * (row.file + 1 - len(file_starts))
            if not isinstance(row, BadRow):
                prompt, response = next(cuts), next(cuts)
                fault = _find_fault(request, tokenizer, prompt, response)
                if fault is None:
                    sides += (tokenizer.frame_prompt(prompt), tokenizer.frame_response(response))
                    numbers.append(row.number)
                    continue
                row = BadRow(row.file, row.number, *fault)
            if not request.skip_bad:
                raise refuse(files, row)
            bad += [row] if len(bad) < BAD_SHOWN else []
            bad_counts[row.kind] += 1
        if not numbers:
            continue
        lengths = numpy.fromiter(map(len, sides), numpy.int64, len(sides))
        flat = numpy.fromiter(chain.from_iterable(sides), kind, int(lengths.sum()))
        words = fingerprint_ragged(flat, lengths)
        counts += numpy.bincount(flat, minlength=len(counts))
        longest = numpy.maximum(longest, lengths.reshape(-1, 2).max(0))
        append(folder, "tokens", flat)
        append(folder, "ends", numpy.cumsum(lengths) + at)
        append(folder, "numbers", numpy.array(numbers, numpy.int64))
        append(folder, "prompts", words[0::2])
        append(folder, "responses", words[1::2])
        kept, at = kept + len(numbers), at + len(flat)
    file_starts += [kept] * (len(files) + 1 - len(file_starts))
    for first, last in ((0, train), (train, len(files))):
        if first < last and file_starts[first] == file_starts[last]:
            reasons = [row.reason for row in bad if first <= row.file < last]
            what = f"every row is bad; the first: {reasons[0]}" if reasons else "it holds no rows"
            raise RequestError(f"{files[first]}: {what}")
    append(folder, "order", numpy.argsort(map_array(folder, "prompts"), kind="stable"))
    append(folder, "counts", counts)
    _, shares = numpy.unique(map_array(folder, "responses")[: file_starts[train]], return_counts=True)
    return {
        "bad": bad, "bad_counts": dict(bad_counts), "file_starts": file_starts[: len(files)],
        "train_rows": file_starts[train], "longest": longest.tolist(),
        "majority": int(shares.max()) / file_starts[train],
    }  # fmt: skip


def _find_fault(
    request: Request, tokenizer: Tokenizer, prompt: list[int], response: list[int]
) -> tuple[str, str] | None:
    """Why a row cannot be used, if it cannot: the kind of reason, and the reason."""
    sides = (("prompt", prompt, request.max_prompt), ("response", response, request.max_response))
    for side, tokens, limit in sides:
        if not tokens:
            return "empty field", f"the {side} holds nothing that the tokenizer keeps"
        if limit is not None and len(tokens) > limit:
            return "too long", f"the {side} has {len(tokens)} tokens, more than max_{side}={limit}"
    if tokenizer.end in response:
        return "end within", "the response holds the tokenizer's end-of-text token, after which nothing is read"
    return None
