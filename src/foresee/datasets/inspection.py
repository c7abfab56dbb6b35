"""What is in a data set, before anything is trained on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from foresee.datasets.dataset import DataSet
from foresee.datasets.request import Request
from foresee.datasets.tokenizers import UNKNOWN
from foresee.datasets.tokens import TokenRows

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)

SHOWN = 5
"""Examples of each finding."""

AT_ONCE = 1 << 20
"""Tokens looked at at a time."""


@dataclass(frozen=True)
class Example:
    """Rows that belong together: where they stand, their prompt, and their responses."""

    places: tuple[str, ...]
    prompt: str
    responses: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """Prompts that were found, how many rows hold them, and the first few."""

    prompts: int
    rows: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class DataSummary:
    """What ``inspect`` found. Lengths are in tokens, framing included; rows are the good ones."""

    rows: int
    train_rows: int
    test_rows: int
    bad_rows: dict[str, int]
    """Bad rows by kind of reason."""
    bad_examples: tuple[str, ...]
    prompt_lengths: dict[str, int]
    """By quantile: "0%" is the shortest, "100%" the longest."""
    response_lengths: dict[str, int]
    symbols: int
    unknown: int
    """Tokens outside the vocabulary, in all rows."""
    majority: float
    """The share of rows with the most frequent response: what guessing it gets right."""
    duplicates: Finding
    """Rows that repeat an earlier one, prompt and response; ``prompts`` counts those with such a row."""
    contradictions: Finding
    """Prompts with several different responses, and all rows that hold them."""
    overlap: Finding
    """Prompts of the test file that are in the file as well, and the file's rows that hold them, which are not trained
    on. None can be in both where one file is split, since a prompt decides the split."""

    def json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return asdict(self)


def inspect(request: Request) -> DataSummary:
    """Reads the data set, bad rows left out and counted, whether or not the request says so. Raises ``RequestError``
    on a file as a whole that cannot be used, or where no row is good."""
    data = DataSet(request)
    grouped = _grouped(data)
    rows = numpy.arange(len(data))
    lengths = data.lengths(rows)
    kinds: dict[str, int] = {}
    examples: list[str] = []
    for part in data.parts:
        for bad in (part.texts.bad, part.bad):
            for kind, count in bad.counts.items():
                kinds[kind] = kinds.get(kind, 0) + count
            examples += map(str, bad.first)
    return DataSummary(
        rows=len(data),
        train_rows=len(data.train_rows),
        test_rows=len(data.test_rows),
        bad_rows=kinds,
        bad_examples=tuple(examples),
        prompt_lengths=_quantiles(lengths[:, 0]),
        response_lengths=_quantiles(lengths[:, 1]),
        symbols=len(data.coding.vocab),
        unknown=_unknown(data),
        majority=data.train.majority,
        duplicates=_duplicates(data, grouped),
        contradictions=_contradictions(data, grouped),
        overlap=_overlap(data),
    )


def _quantiles(values: NDArray[numpy.int64]) -> dict[str, int]:
    found = numpy.quantile(values, QUANTILES, method="higher")
    return {f"{100 * share:.0f}%": int(value) for share, value in zip(QUANTILES, found, strict=True)}


def _unknown(data: DataSet) -> int:
    symbols = data.coding.tokenizer.symbols
    if symbols[-1] != UNKNOWN:
        return 0
    unknown, found = len(symbols) - 1, 0
    for part in data.parts:
        for start in range(0, len(part.tokens), AT_ONCE):
            found += int((part.tokens[start : start + AT_ONCE] == unknown).sum())
    return found


@dataclass(frozen=True)
class _Grouped:
    """The rows of all files by prompt, then by response, then in their order."""

    order: NDArray[numpy.int64]
    new_prompt: NDArray[numpy.bool_]
    """[rows] in that order: whether each is the first with its prompt."""
    new_pair: NDArray[numpy.bool_]
    """Whether each is the first with its prompt and response."""


def _grouped(data: DataSet) -> _Grouped:
    prompts = numpy.concatenate([part.prompts for part in data.parts])
    responses = numpy.concatenate([part.responses for part in data.parts])
    order = numpy.lexsort((responses, prompts))
    new_prompt = numpy.ones(len(order), numpy.bool_)
    new_prompt[1:] = prompts[order[1:]] != prompts[order[:-1]]
    new_pair = new_prompt.copy()
    new_pair[1:] |= responses[order[1:]] != responses[order[:-1]]
    return _Grouped(order, new_prompt, new_pair)


def _duplicates(data: DataSet, grouped: _Grouped) -> Finding:
    pair_of = numpy.cumsum(grouped.new_pair) - 1
    sizes = numpy.bincount(pair_of)
    starts = numpy.flatnonzero(grouped.new_pair)
    repeated = numpy.flatnonzero(sizes > 1)
    prompt_of = numpy.cumsum(grouped.new_prompt) - 1
    first = repeated[numpy.argsort(grouped.order[starts[repeated]])[:SHOWN]]
    return Finding(
        len(numpy.unique(prompt_of[starts[repeated]])),
        int((sizes[repeated] - 1).sum()),
        tuple(_example(data, grouped.order[starts[n] : starts[n] + sizes[n]]) for n in first),
    )


def _contradictions(data: DataSet, grouped: _Grouped) -> Finding:
    prompt_of = numpy.cumsum(grouped.new_prompt) - 1
    sizes, answers = numpy.bincount(prompt_of), numpy.bincount(prompt_of, grouped.new_pair)
    starts = numpy.flatnonzero(grouped.new_prompt)
    several = numpy.flatnonzero(answers > 1)
    first = several[numpy.argsort(grouped.order[starts[several]])[:SHOWN]]
    examples = []
    for n in first:
        inside = slice(starts[n], starts[n] + sizes[n])
        examples.append(_example(data, grouped.order[inside][grouped.new_pair[inside]]))
    return Finding(len(several), int(sizes[several].sum()), tuple(examples))


def _overlap(data: DataSet) -> Finding:
    rows = numpy.flatnonzero(data.leaked)
    prompts = numpy.unique(data.train.prompts[rows])
    return Finding(
        len(prompts), len(rows), tuple(_example(data, rows[n : n + 1]) for n in range(min(SHOWN, len(rows))))
    )


def _example(data: DataSet, rows: NDArray[numpy.int64]) -> Example:
    places, responses, prompt = [], [], ""
    for row in rows[:SHOWN].tolist():
        part: TokenRows = data.train if row < len(data.train) else data.parts[1]
        own = row if part is data.train else row - len(data.train)
        prompt, response = part.texts.pair(int(part.text_rows[own]))
        places.append(part.place(own))
        responses.append(response)
    return Example(tuple(places), prompt, tuple(dict.fromkeys(responses)))
