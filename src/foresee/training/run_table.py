"""Runs as a pandas table: one flat row a run, filtered, sorted and exported.

A run that is unfinished or damaged has a row too, which says so: leaving it out would look as if it had never been.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from foresee.core import files
from foresee.core.errors import RequestError, require_package
from foresee.core.registry import nearest
from foresee.core.spec import parse, resolve
from foresee.training.run import DamagedRun, Run
from foresee.training.settings import part_registries, settable

if TYPE_CHECKING:
    import pandas

Cell = str | int | float | bool

SHOWN = ("run", "state", "task", "objective", "backbone", "seed", "steps", "batch", "exact", "follow", "verdict")
"""The columns that a terminal shows unless others are asked for, but for settings that tell runs apart."""

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "!=": operator.ne, ">=": operator.ge, "<=": operator.le, "=": operator.eq, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def runs_table(runs: Iterable[Run | DamagedRun]) -> pandas.DataFrame:
    """One row a run: ``run``, ``dir``, ``state`` (finished, unfinished or damaged), every setting, the options of task,
    objective and backbone as ``task.degree`` and so on, ``steps_done``, ``seconds``, ``examples_per_second``, the final
    measurements (``exact``, with ``exact.low``, ``exact.high``, ``exact.n``; ``forced.0`` by answer position),
    ``verdict``, ``inconclusive``, its ``doubts``, and where something could not be read or judged, ``reason``."""
    import pandas

    records = [_record(run) for run in runs]
    names = dict.fromkeys(name for record in records for name in record)
    return pandas.DataFrame({name: _column([record.get(name) for record in records]) for name in names})


def _record(run: Run | DamagedRun) -> dict[str, Cell]:
    record: dict[str, Cell] = {"run": run.dir.name, "dir": str(run.dir)}
    if isinstance(run, DamagedRun):
        return record | {"state": "damaged", "reason": run.reason}
    record |= {"state": run.state, **run.spec.model_dump()}
    for part in ("task", "objective", "backbone"):
        record |= _options(part, str(record[part]))
    record |= {"steps_done": run.steps, "seconds": run.seconds}
    if (speed := run.examples_per_second) is not None:
        record["examples_per_second"] = speed
    for name, row in run.rows.items():
        for place, one in enumerate(row) if isinstance(row, list) else [("", row)]:
            own = name if place == "" else f"{name}.{place}"
            record[own] = one["value"]
            numbers = cast(Mapping[str, Cell], one)  # a TypedDict's values have no common type of their own
            record |= {f"{own}.{key}": value for key, value in numbers.items() if key != "value" and place == ""}
    if run.state == "finished":
        try:
            verdict = run.verdict
            record |= {"verdict": verdict.name, "inconclusive": verdict.inconclusive}
            record |= {"doubts": "; ".join(verdict.doubts)} if verdict.doubts else {}
        except RequestError as error:
            record["reason"] = str(error)
    return record


@lru_cache(maxsize=1024)
def _options(part: str, text: str) -> dict[str, Cell]:
    name, options = parse(text)
    return {f"{part}.name": name, **{f"{part}.{key}": _value(value) for key, value in options.items()}}


def _value(text: str) -> Cell:
    """A number where it is one, so that ``task.degree>=5`` compares numbers."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def _column(cells: Sequence[Cell | None]) -> pandas.Series:
    """Cells with the type that all of them have; text where they are of several kinds."""
    import pandas

    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int} and any(cell is not None and not -(2**63) <= int(cell) < 2**63 for cell in cells):
        kinds = {str}  # one odd number, of a damaged run say, must not hide the others
    if kinds in ({int}, {bool}):
        return pandas.Series(cells, dtype="Int64" if kinds == {int} else "boolean")
    if kinds <= {int, float}:
        return pandas.Series(cells, dtype="float64")
    return pandas.Series([None if cell is None else str(cell) for cell in cells], dtype="string")


def filter_runs(table: pandas.DataFrame, conditions: Sequence[str]) -> pandas.DataFrame:
    """The rows that meet every condition, as in ``task.degree>=5`` and ``objective=next-token``; anything else that
    pandas can say is for ``table.query``.

    ``task``, ``objective`` and ``backbone`` match by the name of their class, by preset and by spec. A run without the
    column meets no condition on it but ``!=``. Raises ``RequestError`` on what is no condition, on a column that no run
    has, and where text is compared by order.
    """
    import pandas

    for condition in conditions:
        parsed = re.fullmatch(r"\s*([\w.-]+?)\s*(!=|>=|<=|=|>|<)=?\s*([^<>=].*?)\s*", condition)
        if parsed is None:
            raise RequestError(
                f"--where {condition!r} is no condition; write a column, one of {' '.join(COMPARISONS)} and a value, "
                "as in exact>=0.95"
            )
        column, sign, wanted = parsed.groups()
        if not len(table.columns):
            continue  # no runs at all
        _require_column(table, column, f"--where {condition!r}")
        named, value = column in part_registries() and f"{column}.name" in table, _value(wanted)
        if named:
            registry = part_registries()[column]
            named = ":" not in wanted and registry.expand(wanted) is None
            with suppress(RequestError):  # of another version, say
                wanted = wanted if named else resolve(registry, wanted).text
        cells = table[f"{column}.name" if named else column]
        numeric = pandas.api.types.is_numeric_dtype(cells) and not isinstance(value, str)
        if pandas.api.types.is_numeric_dtype(cells) and not numeric:
            raise RequestError(f"--where {condition!r}: {column} holds numbers, and {wanted!r} is none")
        if not numeric and sign not in ("=", "!="):
            raise RequestError(f"--where {condition!r}: text has no order; compare it with = or !=")
        kept = COMPARISONS[sign](cells, value if numeric else wanted)
        table = table[kept.where(cells.notna(), sign == "!=").astype(bool)]
    return table


def sort_runs(table: pandas.DataFrame, column: str, *, descending: bool = False) -> pandas.DataFrame:
    """Rows by the value of a column; those without it come last either way. Raises ``RequestError`` on a column that no
    run has."""
    if not len(table.columns):
        return table
    _require_column(table, column, f"--sort {column}")
    return table.sort_values(column, ascending=not descending, kind="stable", na_position="last")


def _require_column(table: pandas.DataFrame, column: str, where: str) -> None:
    if column not in table:
        raise RequestError(f"{where}: no run has a column {column!r}; {nearest(column, list(table.columns))}")


def table_records(table: pandas.DataFrame) -> list[dict[str, Cell]]:
    """Rows as JSON objects, without the cells that a run does not have."""
    import pandas

    rows = table.astype(object).to_dict("records")
    return [{name: cell for name, cell in row.items() if not pandas.isna(cell)} for row in rows]


def write_table(table: pandas.DataFrame, path: Path, form: str | None = None) -> None:
    """Writes every column and row, atomically, as ``csv``, ``parquet``, ``md`` or ``tex``: what the file's name ends
    with, unless ``form`` says another. Raises ``RequestError`` where it is none, and where pyarrow is missing."""
    writers: dict[str, Callable[[Path], object]] = {
        "csv": lambda to: table.to_csv(to, index=False),
        "parquet": lambda to: table.to_parquet(to, index=False),
        "md": lambda to: to.write_text(_markdown(table), encoding="utf-8"),
        "tex": lambda to: table.to_latex(to, index=False, escape=True),
    }
    form = form or path.suffix.removeprefix(".")
    if form not in writers:
        raise RequestError(f"{path}: a table of runs is written as one of {', '.join(writers)}")
    if form == "parquet":
        require_package("pyarrow", "data", path)
    files.replace_file(path, writers[form])


def _markdown(table: pandas.DataFrame) -> str:
    cells = [list(table.columns), ["---"] * len(table.columns), *table.astype(object).fillna("").values.tolist()]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |\n" for row in cells)


def telling_columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """``SHOWN``, and in front of the measurements those settings that runs differ in which else look the same."""
    settings = [setting.name for setting in settable()]
    telling = [name for name in SHOWN if name in settings]
    further = []
    for name in settings:
        values: dict[tuple[Any, ...], set[Any]] = {}
        for record in records:
            values.setdefault(tuple(map(record.get, telling)), set()).add(record.get(name))
        if any(len(each) > 1 for each in values.values()):
            telling.append(name)
            further.append(name)
    place = SHOWN.index("exact")
    return [*SHOWN[:place], *further, *SHOWN[place:]]


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
