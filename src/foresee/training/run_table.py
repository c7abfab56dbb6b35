"""Runs as a table: one flat row a run, filtered, sorted and written as CSV or Parquet.

Reads JSON alone. A run that is unfinished or damaged has a row too, which says so: leaving it out would look as if it
had never been.
"""

from __future__ import annotations

import csv
import io
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.core.registry import nearest
from foresee.core.spec import parse
from foresee.metrics.base import Rows
from foresee.training.run import last_number, load, read_spec
from foresee.training.settings import Settings

Cell = str | int | float | bool | None
Record = dict[str, Any]
"""A row by column; every cell is a ``Cell``."""

SHOWN = ("run", "state", "task", "objective", "backbone", "seed", "exact", "follow", "verdict")
"""The columns that a terminal shows unless others are asked for."""

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne, ">=": operator.ge, "<=": operator.le, "=": operator.eq, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
"""By sign; the longer ones come first, so that ``>=`` is not read as ``>``."""


def runs_under(roots: Iterable[Path]) -> list[Path]:
    """Run directories directly under the given folders, in the order of their names."""
    return [spec.parent for root in roots for spec in sorted(root.glob("*/spec.json"))]


def record_of(directory: Path) -> Record:
    """One run as a flat row.

    ``run``, ``dir``, ``state`` (finished, unfinished or damaged), every field of its spec, the options of its task,
    objective and backbone as ``task.degree`` and so on, ``steps_done``, ``seconds``, ``examples_per_second``, the
    final measurements (``exact``, with ``exact.low``, ``exact.high``, ``exact.n``; ``forced.0`` by answer position),
    ``verdict`` and ``inconclusive``; of a damaged run, ``reason``.
    """
    record: Record = {"run": directory.name, "dir": str(directory), "state": "damaged"}
    try:
        spec = read_spec(directory)
        record |= _spec_cells(spec)
        if (directory / "metrics.jsonl").exists():
            record |= _progress_cells(directory)
        if (directory / "rows.jsonl").exists():
            run = load(directory)
            verdict = run.verdict
            record |= _row_cells(run.rows) | {"verdict": verdict.name, "inconclusive": verdict.inconclusive}
            record["state"] = "finished"
        else:
            record["state"] = "unfinished"
    except RequestError as error:
        record["reason"] = str(error)
    return record


def _spec_cells(spec: Settings) -> Record:
    cells: Record = dict(spec.model_dump())
    for part in ("task", "objective", "backbone"):
        cells |= _options(part, str(cells[part]))
    return cells


@lru_cache(maxsize=1024)
def _options(part: str, text: str) -> Record:
    name, options = parse(text)
    return {part: text, f"{part}.name": name, **{f"{part}.{key}": _value(value) for key, value in options.items()}}


def _progress_cells(directory: Path) -> Record:
    if not (directory / "metrics.jsonl").stat().st_size:
        return {"steps_done": 0}
    timing = directory / "timing.jsonl"
    return {
        "steps_done": int(last_number(directory / "metrics.jsonl", "step")),
        "seconds": last_number(timing, "seconds"),
        "examples_per_second": last_number(timing, "examples_per_second"),
    }


def _row_cells(rows: Rows) -> Record:
    cells: Record = {}
    for name, row in rows.items():
        if isinstance(row, list):
            cells |= {f"{name}.{place}": one["value"] for place, one in enumerate(row)}
        else:
            cells[name] = row["value"]
            cells |= {f"{name}.{key}": value for key, value in row.items() if key != "value"}
    return cells


def _value(text: str) -> Cell:
    """A number where it is one, so that ``task.degree>=5`` compares numbers."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def columns_of(records: Sequence[Mapping[str, Cell]]) -> list[str]:
    """Every column that any record has, in the order of first appearance."""
    return list(dict.fromkeys(key for record in records for key in record))


def matching(records: Sequence[Record], conditions: Sequence[str]) -> list[Record]:
    """The records that meet every condition, as in ``task.degree>=5`` and ``objective=next-token``.

    ``task``, ``objective`` and ``backbone`` match by name or by whole spec. A record without the column meets no
    condition on it but ``!=``. Raises ``RequestError`` on a condition without a comparison, on a column that no run
    has, and where text is compared by order.
    """
    known = columns_of(records)
    for condition in conditions:
        column, sign, wanted = _parsed(condition)
        if records and column not in known:
            raise RequestError(f"--where {condition!r}: no run has a column {column!r}; {nearest(column, known)}")
        compare = COMPARISONS[sign]
        records = [record for record in records if _meets(record, column, sign, compare, wanted, condition)]
    return list(records)


def _parsed(condition: str) -> tuple[str, str, Cell]:
    for sign in COMPARISONS:
        column, found, value = condition.partition(sign)
        if found and column.strip().replace("_", "").replace(".", "").replace("-", "").isalnum():
            return column.strip(), sign, _value(value.strip())
    raise RequestError(
        f"--where {condition!r} is no condition; write a column, one of {' '.join(COMPARISONS)} and a value, "
        "as in exact>=0.95"
    )


def _meets(
    record: Record, column: str, sign: str, compare: Callable[[Any, Any], bool], wanted: Cell, condition: str
) -> bool:
    found = record.get(column)
    if found is None:
        return sign == "!="
    if f"{column}.name" in record and ":" not in str(wanted):
        found = record[f"{column}.name"]
    numbers = isinstance(found, int | float) and isinstance(wanted, int | float)
    if sign in ("=", "!=") and not numbers:
        found, wanted = str(found), str(wanted)
    elif not numbers:
        raise RequestError(f"--where {condition!r}: {found!r} and {wanted!r} have no order; compare them with = or !=")
    return compare(found, wanted)


def in_order(records: Sequence[Record], column: str, descending: bool) -> list[Record]:
    """Records by the value of a column; those without it come last either way. Raises ``RequestError`` on a column that
    no run has."""
    known = columns_of(records)
    if records and column not in known:
        raise RequestError(f"--sort {column}: no run has this column; {nearest(column, known)}")
    having = [record for record in records if record.get(column) is not None]
    numeric = all(isinstance(record[column], int | float) for record in having)

    def rank(record: Mapping[str, Cell]) -> Any:  # all numbers or all text
        return record[column] if numeric else str(record[column])

    ordered = sorted(having, key=rank, reverse=descending)
    return ordered + [record for record in records if record.get(column) is None]


def without_common(specs: Sequence[str]) -> list[str]:
    """Specs without the options that all of them share, and without the name where all have one name and each keeps an
    option: what tells runs apart on a narrow screen."""
    parsed = [parse(text) for text in specs]
    options = [{f"{key}={value}" for key, value in each.items()} for _, each in parsed]
    common = set.intersection(*options) if options else set()
    own = [[part for part in (f"{k}={v}" for k, v in each.items()) if part not in common] for _, each in parsed]
    if len({name for name, _ in parsed}) == 1 and all(own):
        return [",".join(parts) for parts in own]
    return [f"{name}:{','.join(parts)}" if parts else name for (name, _), parts in zip(parsed, own, strict=True)]


def write_csv(records: Sequence[Mapping[str, Cell]], path: Path) -> None:
    """Every column of every record, atomically; an absent cell is empty, truth is ``true`` and ``false``."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns_of(records), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: _csv_cell(cell) for key, cell in record.items()})
    files.write_text(path, text.getvalue())


def _csv_cell(cell: Cell) -> Cell:
    return str(cell).lower() if isinstance(cell, bool) else cell


def write_parquet(records: Sequence[Mapping[str, Cell]], path: Path) -> None:
    """Every column of every record with its type, atomically. A column of several kinds is text. Raises
    ``RequestError`` where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RequestError("--parquet needs pyarrow, which is not installed; pip install 'foresee[data]'") from None
    columns = {name: _alike([record.get(name) for record in records]) for name in columns_of(records)}
    table = pyarrow.table(columns)
    files.replace_file(path, lambda temporary: pyarrow.parquet.write_table(table, temporary))


def _alike(cells: list[Cell]) -> list[Cell]:
    kinds = {type(cell) for cell in cells if cell is not None}
    if len(kinds) < 2:
        return cells
    if kinds == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    return [None if cell is None else str(_csv_cell(cell)) for cell in cells]
