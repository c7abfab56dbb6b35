"""The rows of a data set as tokens in the cache, and its splits.

Arrow tables of Hugging Face's ``datasets`` would hold the same, but take 5 ms to read 128 rows at random, not 0.1 ms.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint_ragged, one_in_eight
from foresee.datasets.cache import Array, Rows, append, key_of, load_or_build, map_array
from foresee.datasets.coding import Coding
from foresee.datasets.request import Request, digest_each
from foresee.datasets.rows import NAME_FIELDS
from foresee.datasets.sources import BadRow, name_place, read_rows, refuse
from foresee.datasets.tokenizers import Tokenizer, choose_tokenizer

AT_ONCE = 1024
"""Rows that are cut at a time."""

BAD_SHOWN = 100
"""Bad rows that are kept in full; the others are only counted."""


class DataSet:
    """The rows of a file, and after them those of the test file where there is one.

    With a test file, rows of the first whose prompt is in it belong to the test split too, and to neither the rows
    that are trained on nor those that are tested on.
    """

    def __init__(self, request: Request, coding: Coding | None = None) -> None:
        """Reads, or finds in the cache; by ``coding`` where a run has kept one, and otherwise one that is learned.
        Raises ``RequestError`` on a file, a row or a tokenizer that cannot be used."""
        self.request = request
        train, test = request.files()
        self.files = [*train, *test]
        tokenizer = choose_tokenizer(request, train) if coding is None else coding.tokenizer
        limits = (request.max_prompt, request.max_answer)
        read = digest_each(train, test)

        def build(place: Path) -> dict[str, Any]:
            built = _build(place, request, tokenizer, self.files, len(train))
            if read != digest_each(train, test):
                raise RequestError(f"{self.files[0]}: a file changed while it was read; ask again")
            return built

        folder, meta = load_or_build(
            "rows",
            key_of("rows", 3, read, request.fields, tokenizer.key, request.boundary, request.ending, limits),
            build,
        )
        self.bad = [BadRow(*row) for row in meta["bad"]]
        """The first of the bad rows, which are not among the rows."""
        if self.bad and not request.skip_bad:
            raise refuse(self.files, self.bad[0])
        self.bad_counts: dict[str, int] = meta["bad_counts"]
        """Bad rows by kind of reason."""
        self.file_ends: list[int] = meta["file_ends"]
        """How many rows there are up to the end of each file."""
        self.train_rows: int = meta["train_rows"]
        """Rows of the first file."""
        # [all tokens] prompt, response, prompt, ..., each with its frame, and [2 * rows] where each of those ends.
        self.tokens, self.ends = map_array(folder, "tokens"), map_array(folder, "ends")
        # [rows] fingerprints, and the rows in the order of their prompts' fingerprints, then of the file.
        self.prompts, self.responses = map_array(folder, "prompts"), map_array(folder, "responses")
        self.order = map_array(folder, "order")
        # [rows] lines or rows in their files, from 1, and [the tokenizer's tokens] how often each occurs.
        self.numbers, self.counts = map_array(folder, "numbers"), map_array(folder, "counts")
        longest = (int(meta["longest"][0]), int(meta["longest"][1]))
        if coding is None:
            seen = request.tokens == "seen" and request.checkpoint is not None
            ids = numpy.flatnonzero(self.counts) if seen else numpy.arange(len(self.counts))
            self.coding = Coding(tokenizer, ids, longest, meta["majority"])
        else:
            if len(strange := numpy.setdiff1d(numpy.flatnonzero(self.counts), coding.ids)):
                symbol = tokenizer.symbols[int(strange[0])]
                raise RequestError(f"{self.files[0]} holds the token {symbol!r}, which is none of the run's vocabulary")
            longest = (max(longest[0], coding.longest[0]), max(longest[1], coding.longest[1]))
            self.coding = replace(coding, longest=longest)
        if request.ending == "none":
            self._check_lengths()

    def _check_lengths(self) -> None:
        """Raises ``RequestError`` unless all responses have one length, by which it is known where each ends."""
        lengths = self.ends[1::2] - self.ends[0::2]
        if len(odd := numpy.flatnonzero(lengths != self.coding.longest[1])):
            place = name_place(self.files, *self.place(int(odd[0])))
            raise RequestError(
                f"data: ending=none needs responses of one length, but {place} has one of {lengths[odd[0]]} tokens and "
                f"others have {self.coding.longest[1]}; use ending=symbol"
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
        return bisect_right(self.file_ends, row), int(self.numbers[row])

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
        tokens[numpy.arange(tokens.shape[1]) < lengths[:, None]] = self.coding.number_of[flat]
        return tokens, numpy.diff(bounds, axis=1)

    def pair(self, row: int) -> tuple[list[int], list[int]]:
        """Prompt and response of a row."""
        tokens, ((prompt, _),) = self.gather(numpy.array([row]))
        return tokens[0, :prompt].tolist(), tokens[0, prompt:].tolist()

    def responses_to(self, prompt: Sequence[int]) -> list[list[int]]:
        """Finds every stored response to a prompt, in the order of the files; the same one may come several times."""
        word = fingerprint_ragged(self.coding.ids[list(prompt)], numpy.array([len(prompt)]))
        first = int(numpy.searchsorted(self.prompts, word, "left", sorter=self.order)[0])
        last = int(numpy.searchsorted(self.prompts, word, "right", sorter=self.order)[0])
        pairs = map(self.pair, self.order[first:last].tolist())
        return [response for found, response in pairs if found == list(prompt)]


def _build(folder: Path, request: Request, tokenizer: Tokenizer, files: list[Path], train: int) -> dict[str, Any]:
    """Cuts the rows of ``files``, of which the first ``train`` are not the test files, and writes the arrays."""
    kind = numpy.min_scalar_type(len(tokenizer.symbols) - 1)
    bad: list[BadRow] = []
    bad_counts: Counter[str] = Counter()
    counts = numpy.zeros(len(tokenizer.symbols), numpy.int64)
    longest = numpy.zeros(2, numpy.int64)
    never_right = [numpy.empty(0, numpy.uint64)]  # fingerprints of responses with an unknown token
    in_file = numpy.zeros(len(files), numpy.int64)
    at = 0
    rows = read_rows(files, request.fields)
    while block := list(islice(rows, AT_ONCE)):
        good = [row for row in block if not isinstance(row, BadRow)]
        flat, lengths = tokenizer.encode([text for row in good for text in row[2:]])
        lengths = lengths.reshape(-1, 2)
        faults = _find_faults(request, tokenizer, flat, lengths)
        found = [row for row in block if isinstance(row, BadRow)]
        found = sorted(found + [BadRow(*good[row][:2], *fault) for row, fault in faults.items()])
        if found and not request.skip_bad:
            raise refuse(files, found[0])
        bad += found[: BAD_SHOWN - len(bad)]
        bad_counts.update(row.kind for row in found)
        kept = numpy.ones(len(good), numpy.bool_)
        kept[list(faults)] = False
        if not kept.any():
            continue
        flat, lengths = flat[numpy.repeat(kept, lengths.sum(1))].astype(kind), lengths[kept]
        flat, lengths = tokenizer.frame(flat, lengths)
        words = fingerprint_ragged(flat, lengths.reshape(-1))
        if tokenizer.unknown is not None:
            sides = numpy.repeat(numpy.arange(lengths.size), lengths.reshape(-1))[flat == tokenizer.unknown]
            never_right.append(numpy.unique(words[sides[sides % 2 == 1]]))
        counts += numpy.bincount(flat, minlength=len(counts))
        longest = numpy.maximum(longest, lengths.max(0))
        places = numpy.array([row[:2] for row in good], numpy.int64)[kept]
        in_file += numpy.bincount(places[:, 0], minlength=len(files))
        append(folder, "tokens", flat)
        append(folder, "ends", numpy.cumsum(lengths) + at)
        append(folder, "numbers", places[:, 1])
        append(folder, "prompts", words[0::2])
        append(folder, "responses", words[1::2])
        at += len(flat)
    for part in (slice(0, train), slice(train, len(files))):
        if files[part] and not in_file[part].any():
            first = next((row for row in bad if files[row.file] in files[part]), None)
            remedy = f"; {NAME_FIELDS}" if first is not None and first.kind == "missing field" else ""
            what = "it holds no rows"
            if first is not None:
                place = name_place(files, first.file, first.number).rpartition(", ")[2]
                what = f"every row is bad; the first, {place}: {first.reason}{remedy}"
            raise RequestError(f"{files[part][0]}: {what}")
    append(folder, "order", numpy.argsort(map_array(folder, "prompts"), kind="stable"))
    append(folder, "counts", counts)
    train_rows = int(in_file[:train].sum())
    prompts, responses = (map_array(folder, name)[:train_rows] for name in ("prompts", "responses"))
    shares = _right_rows(prompts, responses, numpy.concatenate(never_right))
    return {
        "bad": bad, "bad_counts": dict(bad_counts), "longest": longest.tolist(), "train_rows": train_rows,
        "file_ends": numpy.cumsum(in_file).tolist(), "majority": int(shares.max()) / train_rows,
    }  # fmt: skip


def _right_rows(prompts: Array, responses: Array, never_right: Array) -> Array:
    """To how many of the rows each different response is right: those whose prompt it is given to anywhere."""
    pairs = numpy.unique(numpy.stack([prompts, responses], 1), axis=0)
    every, rows = numpy.unique(prompts, return_counts=True)
    known, number = numpy.unique(pairs[:, 1], return_inverse=True)
    right = numpy.bincount(number, rows[numpy.searchsorted(every, pairs[:, 0])], len(known))
    right[numpy.isin(known, never_right)] = 0
    return right


def _find_faults(request: Request, tokenizer: Tokenizer, flat: Array, lengths: Rows) -> dict[int, tuple[str, str]]:
    """Which rows of a block cannot be used: the kind of reason, and the reason. ``flat`` holds the tokens of prompt,
    response, prompt, ..., of ``lengths`` [rows, 2]."""
    faults: dict[int, tuple[str, str]] = {}
    if tokenizer.end is not None:
        text = numpy.searchsorted(numpy.cumsum(lengths), numpy.flatnonzero(flat == tokenizer.end), "right")
        why = "the response holds the tokenizer's end-of-text token, after which nothing is read"
        faults |= dict.fromkeys((text[text % 2 == 1] // 2).tolist(), ("end within", why))
    for column, side, limit in ((1, "answer", request.max_answer), (0, "prompt", request.max_prompt)):
        for row in numpy.flatnonzero(lengths[:, column] > (limit or sys.maxsize)).tolist():
            why = f"the {side} has {lengths[row, column]} tokens, more than max_{side}={limit}"
            faults[row] = ("too long", why)
        framed = column == 0 and (tokenizer.before or tokenizer.after)  # an empty prompt is one then
        for row in () if framed else numpy.flatnonzero(lengths[:, column] == 0).tolist():
            faults[row] = ("empty field", f"the {side} holds nothing that the tokenizer keeps")
    return faults
