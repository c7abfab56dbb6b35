"""The tokens of a data set in the cache.

``tokens`` holds the rows one after the other, prompt, response, prompt, ..., each with its framing; ``ends`` where each
ends; ``rows`` which row of the text each is; ``prompts`` and ``responses`` their fingerprints; ``order`` the rows in
the order of their prompts' fingerprints, so that a prompt can be looked up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.datasets.arrays import Array, ArrayWriter, mapped, smallest_type
from foresee.datasets.cache import cached, key_of, meta_of
from foresee.datasets.fingerprints import fingerprints
from foresee.datasets.framing import Framing
from foresee.datasets.rows import BadRow
from foresee.datasets.texts import BAD_SHOWN, OFFSET, Bad, Texts, refusal
from foresee.datasets.tokenizers import Tokenizer

NAMES = ("tokens", "ends", "rows", "prompts", "responses", "order", "seen")


@dataclass(frozen=True)
class Cut:
    """How text becomes rows of tokens: ``key`` names the tokenizer's content; ``symbols`` is how many tokens there may
    be, framing included; longer prompts and responses (in tokens of their text) are bad rows."""

    tokenizer: Tokenizer
    key: Sequence[str]
    framing: Framing
    symbols: int
    max_prompt: int | None
    max_response: int | None


@dataclass(frozen=True)
class TokenRows:
    """A data set's rows as tokens, memory-mapped."""

    folder: Path
    texts: Texts
    bad: Bad
    longest_prompt: int
    longest_response: int
    majority: float
    """The share of rows that hold the most frequent response."""

    def _array(self, name: str) -> Array:
        return mapped(self.folder / f"{name}.npy")

    @cached_property
    def tokens(self) -> Array:
        """[all tokens]."""
        return self._array("tokens")

    @cached_property
    def ends(self) -> Array:
        """[2 * rows]."""
        return self._array("ends")

    @cached_property
    def text_rows(self) -> Array:
        """[rows] the row of ``texts`` that each is."""
        return self._array("rows")

    @cached_property
    def prompts(self) -> Fingerprints:
        """[rows] fingerprints of prompts."""
        return self._array("prompts")

    @cached_property
    def responses(self) -> Fingerprints:
        """[rows] fingerprints of responses."""
        return self._array("responses")

    @cached_property
    def order(self) -> Array:
        """[rows] rows by the fingerprints of their prompts; equal ones in the order of the file."""
        return self._array("order")

    @cached_property
    def seen(self) -> Array:
        """[different tokens] those that occur, ascending."""
        return self._array("seen")

    def __len__(self) -> int:
        return len(self.ends) // 2

    def bounds(self, rows: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
        """[rows, 3]: where each row's prompt starts, where its response starts, and where that ends."""
        found = numpy.zeros((len(rows), 3), numpy.int64)
        later = rows > 0
        found[later, 0] = self.ends[2 * rows[later] - 1]
        found[:, 1], found[:, 2] = self.ends[2 * rows], self.ends[2 * rows + 1]
        return found

    def lengths(self, rows: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
        """[rows, 2]: tokens of prompt and response."""
        return numpy.diff(self.bounds(rows), axis=1)

    def odd_response(self, length: int) -> int | None:
        """The first row whose response is not of this many tokens, if any."""
        odd = numpy.flatnonzero(self.ends[1::2] - self.ends[0::2] != length)
        return int(odd[0]) if len(odd) else None

    def place(self, row: int) -> str:
        """File and number of a row, as people are told it."""
        file, number = self.texts.place(int(self.text_rows[row]))
        return f"{file}, {self.texts.source.unit} {number}"

    def pair(self, row: int) -> tuple[list[int], list[int]]:
        """Prompt and response of a row."""
        start, middle, end = self.bounds(numpy.array([row]))[0].tolist()
        return self.tokens[start:middle].tolist(), self.tokens[middle:end].tolist()

    def with_prompt(self, prompt: Sequence[int]) -> list[int]:
        """The rows with this prompt, in the order of the file."""
        word = fingerprints(numpy.array(prompt, numpy.int64), numpy.array([len(prompt)]))[0]
        first = self._first(word)
        found = []
        while first < len(self) and self.prompts[self.order[first]] == word:
            row = int(self.order[first])
            if self.pair(row)[0] == list(prompt):
                found.append(row)
            first += 1
        return found

    def _first(self, word: numpy.uint64) -> int:
        """The first place in ``order`` whose prompt's fingerprint is not below ``word``."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.prompts[self.order[middle]] < word:
                low = middle + 1
            else:
                high = middle
        return low


def tokens_of(texts: Texts, cut: Cut, skip_bad: bool) -> TokenRows:
    """The rows of ``texts`` as tokens, cut into the cache where they are not there yet.

    Raises ``RequestError`` on the first bad row unless ``skip_bad``, and where no row is good.
    """
    frame = [cut.framing.before_prompt, cut.framing.after_prompt, cut.framing.end, cut.symbols]
    key = key_of("tokens", texts.key, list(cut.key), frame, cut.max_prompt, cut.max_response)
    folder = cached("tokens", key, lambda place: _build(place, texts, cut, skip_bad), _whole)
    meta = meta_of(folder)
    assert meta is not None
    first = tuple(BadRow(**{**row, "file": str(texts.source.files[row["file"]])}) for row in meta["bad"])
    if first and not skip_bad:
        raise refusal(first[0])
    bad = Bad(first, meta["bad_counts"])
    return TokenRows(folder, texts, bad, meta["longest_prompt"], meta["longest_response"], meta["majority"])


def _build(folder: Path, texts: Texts, cut: Cut, skip_bad: bool) -> dict[str, Any]:
    bad: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    longest = numpy.zeros(2, numpy.int64)
    seen = numpy.zeros(cut.symbols, numpy.bool_)
    at = 0
    with (
        ArrayWriter(folder / "tokens.npy", smallest_type(cut.symbols - 1)) as tokens,
        ArrayWriter(folder / "ends.npy", OFFSET) as ends,
        ArrayWriter(folder / "rows.npy", OFFSET) as rows,
        ArrayWriter(folder / "prompts.npy", OFFSET) as prompts,
        ArrayWriter(folder / "responses.npy", OFFSET) as responses,
    ):
        for block in texts.blocks():
            flat, places = cut.tokenizer.encode_block(block)
            lengths = numpy.diff(places, prepend=0).reshape(-1, 2)
            wrong = _wrong(flat, places, lengths, cut)
            for row in numpy.flatnonzero(wrong):
                found = _explained(texts, block.first_row + int(row), lengths[row], cut)
                if not skip_bad:
                    raise refusal(found)
                if len(bad) < BAD_SHOWN:
                    file = [str(file) for file in texts.source.files].index(found.file)
                    bad.append(asdict(found) | {"file": file})
                counts[found.kind] += 1
            if wrong.all():
                continue
            good = numpy.flatnonzero(~wrong)
            flat = flat[numpy.repeat(~wrong, lengths.sum(1))]
            flat, places = cut.framing.around(flat, numpy.cumsum(lengths[good]))
            lengths = numpy.diff(places, prepend=0)
            words = fingerprints(flat, lengths)
            seen[flat] = True
            longest = numpy.maximum(longest, lengths.reshape(-1, 2).max(0))
            tokens.write(flat)
            ends.write(places + at)
            rows.write(good + block.first_row)
            prompts.write(words[0::2])
            responses.write(words[1::2])
            at += len(flat)
        if not at:
            raise RequestError(f"{texts.source.files[0]}: no row is left; the first bad one: {bad[0]['reason']}")
        kept = len(rows)
    with ArrayWriter(folder / "order.npy", smallest_type(kept)) as order:
        order.write(numpy.argsort(numpy.load(folder / "prompts.npy"), kind="stable"))
    with ArrayWriter(folder / "seen.npy", OFFSET) as occurring:
        occurring.write(numpy.flatnonzero(seen))
    return {
        "rows": kept, "tokens": at, "seen": int(seen.sum()), "bad": bad, "bad_counts": dict(counts),
        "longest_prompt": int(longest[0]), "longest_response": int(longest[1]),
        "majority": _largest_share(numpy.load(folder / "responses.npy")),
    }  # fmt: skip


def _wrong(flat: Array, places: Array, lengths: NDArray[numpy.int64], cut: Cut) -> NDArray[numpy.bool_]:
    """[rows] bool: which rows of a block cannot be used."""
    wrong: NDArray[numpy.bool_] = (lengths == 0).any(1)
    if cut.max_prompt is not None:
        wrong |= lengths[:, 0] > cut.max_prompt
    if cut.max_response is not None:
        wrong |= lengths[:, 1] > cut.max_response
    if cut.framing.end is not None:
        ending = numpy.flatnonzero(flat == cut.framing.end)
        texts = numpy.searchsorted(places, ending, "right")
        wrong[texts[texts % 2 == 1] // 2] = True
    return wrong


def _explained(texts: Texts, row: int, lengths: NDArray[numpy.int64], cut: Cut) -> BadRow:
    file, number = texts.place(row)
    for side, length, limit in zip(
        ("prompt", "response"), lengths.tolist(), (cut.max_prompt, cut.max_response), strict=True
    ):
        if not length:
            kind, reason = "empty field", f"the {side} holds nothing that the tokenizer keeps"
            break
        if limit is not None and length > limit:
            kind, reason = "too long", f"the {side} has {length} tokens, more than max_{side}={limit}"
            break
    else:
        kind, reason = "end within", "the response holds the tokenizer's end-of-text token, after which nothing is read"
    return BadRow(file, number, texts.source.unit, kind, reason)


def _largest_share(words: Fingerprints) -> float:
    """[rows] -> the share of the most frequent value."""
    words.sort()
    changes = numpy.flatnonzero(words[1:] != words[:-1])
    runs = numpy.diff(numpy.concatenate(([-1], changes, [len(words) - 1])))
    return float(runs.max()) / len(words)


def _whole(folder: Path) -> bool:
    meta = meta_of(folder)
    if meta is None:
        return False
    try:
        lengths = [len(mapped(folder / f"{name}.npy")) for name in NAMES]
        rows = meta["rows"]
        return lengths == [meta["tokens"], 2 * rows, rows, rows, rows, rows, meta["seen"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
