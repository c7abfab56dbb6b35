"""What is in a data set, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy

from foresee.datasets.cache import Rows
from foresee.datasets.dataset import DataSet
from foresee.datasets.request import Request
from foresee.datasets.sources import name_place, other_fields, parts_left_out
from foresee.datasets.tokenizers import UNKNOWN

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)

SHOWN = 5
"""Examples of each finding, and rows of each example."""


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

    left_out: tuple[str, ...]
    """Splits and fields that are not read."""

    def json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return asdict(self)


def inspect(request: Request) -> DataSummary:
    """Reads the data set and counts what is in it. Raises ``RequestError`` as ``DataSet`` does."""
    import pandas

    data = DataSet(request)
    lengths = data.lengths(numpy.arange(len(data)))
    rows = pandas.DataFrame({"prompt": data.prompts, "response": data.responses})
    repeats = rows.duplicated()
    repeated = rows[rows.duplicated(keep=False) & ~repeats]
    distinct = rows[~repeats]
    differing = distinct[distinct["prompt"].duplicated(keep=False)]
    several = differing["prompt"].unique()
    return DataSummary(
        rows=len(data),
        train_rows=len(data.split("train")),
        test_rows=len(data.split("test")),
        bad_rows=data.bad_counts,
        bad_examples=tuple(f"{name_place(data.files, *bad[:2])}: {bad.reason}" for bad in data.bad),
        prompt_lengths=_quantiles(lengths[:, 0]),
        response_lengths=_quantiles(lengths[:, 1]),
        symbols=len(data.coding.vocab),
        unknown=sum(
            int(n) for n, symbol in zip(data.counts, data.coding.tokenizer.symbols, strict=True) if symbol == UNKNOWN
        ),
        majority=data.coding.chance,
        duplicates=Finding(
            repeated["prompt"].nunique(),
            int(repeats.sum()),
            _read_examples(data, [rows.index[(rows == one).all(axis=1)] for _, one in repeated[:SHOWN].iterrows()]),
        ),
        contradictions=Finding(
            len(several),
            int(rows["prompt"].isin(several).sum()),
            _read_examples(data, [differing.index[differing["prompt"] == prompt] for prompt in several[:SHOWN]]),
        ),
        overlap=Finding(
            len(numpy.unique(data.prompts[data.leaked])),
            len(data.leaked),
            _read_examples(data, [[row] for row in data.leaked[:SHOWN]]),
        ),
        left_out=(
            *(parts_left_out(request.path) if request.test_file is None else ()),
            *(f"field {name}" for name in other_fields(data.files, request.fields)),
        ),
    )


def _quantiles(values: Rows) -> dict[str, int]:
    found = numpy.quantile(values, QUANTILES, method="higher")
    return {f"{100 * share:.0f}%": int(value) for share, value in zip(QUANTILES, found, strict=True)}


def _read_examples(data: DataSet, groups: Iterable[Iterable[int]]) -> tuple[Example, ...]:
    """Some rows, as their tokens are written; each group of rows is an example."""
    found = []
    for shown in ([int(row) for row in list(group)[:SHOWN]] for group in groups):
        texts = [data.coding.decode(*data.pair(row)) for row in shown]
        places = tuple(name_place(data.files, *data.place(row)) for row in shown)
        found.append(Example(places, texts[0][0], tuple(dict.fromkeys(response for _, response in texts))))
    return tuple(found)
