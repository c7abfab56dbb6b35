"""Parquet files, Arrow files, and the dataset folders of Hugging Face's ``datasets``, read with pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foresee.core.errors import RequestError
from foresee.datasets.json_lines import listed
from foresee.datasets.rows import BadRow, BadRowError, Fields, Row, text_of

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema

AT_ONCE = 4096
"""Rows of a Parquet file that are decoded at a time."""


def need_pyarrow(path: Path) -> Any:
    """The library. Raises ``RequestError`` where it is not installed."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise RequestError(f"{path}: this format is read with pyarrow; pip install 'foresee[data]'") from None
    return pyarrow


def read_parquet(path: Path, fields: Fields) -> Iterator[Row | BadRow]:
    """The rows of a Parquet file, of which only the two columns are read. Raises ``RequestError`` where the file is
    damaged or lacks a column."""
    pyarrow = need_pyarrow(path)
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            check_schema(path, file.schema_arrow, fields)
            batches = file.iter_batches(batch_size=AT_ONCE, columns=[fields.prompt, fields.response])
            yield from _rows(path, batches, fields)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def read_arrow(path: Path, fields: Fields) -> Iterator[Row | BadRow]:
    """The rows of an Arrow file, in the streaming or the random-access form. Raises ``RequestError`` as
    ``read_parquet`` does."""
    pyarrow = need_pyarrow(path)
    from pyarrow import ipc

    try:
        with pyarrow.OSFile(str(path)) as source:
            random_access = source.read(6) == b"ARROW1"
            source.seek(0)
            # Batch by batch from the file, not from a memory map: what was read does not stay in memory.
            reader = ipc.open_file(source) if random_access else ipc.open_stream(source)
            check_schema(path, reader.schema, fields)
            batches = (reader.get_batch(n) for n in range(reader.num_record_batches)) if random_access else reader
            yield from _rows(path, batches, fields)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> RequestError:
    if isinstance(error, FileNotFoundError):
        return RequestError(f"{path}: no such file")
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return RequestError(f"{path}: cannot be read: {first.rstrip('.')}")


def check_schema(path: Path, schema: Schema, fields: Fields) -> None:
    """Raises ``RequestError`` where a column is missing or holds neither text nor numbers."""
    from pyarrow import types

    for field in (fields.prompt, fields.response):
        if schema.names.count(field) != 1:
            wrong = "more than one" if field in schema.names else "no"
            raise RequestError(f"{path}: there is {wrong} column {field!r}; its columns are {listed(schema.names)}")
        kind = schema.field(field).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        if not (text or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)):
            raise RequestError(f"{path}: column {field!r} holds {kind}; it must hold text or numbers")


def _rows(path: Path, batches: Any, fields: Fields) -> Iterator[Row | BadRow]:
    number = 0
    for batch in batches:
        columns = [_values(batch, field) for field in (fields.prompt, fields.response)]
        for prompt, response in zip(*columns, strict=True):
            number += 1
            try:
                yield Row(number, text_of(prompt, fields.prompt), text_of(response, fields.response))
            except BadRowError as error:
                yield BadRow(str(path), number, "row", error.kind, str(error))


def _values(batch: RecordBatch, field: str) -> list[Any]:
    column = batch.column(batch.schema.names.index(field))
    try:
        return column.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
    except UnicodeDecodeError:  # Arrow does not check that its text is UTF-8
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")


# Folders


def dataset_splits(folder: Path) -> list[str]:
    """The splits of a folder that holds several data sets; empty where it holds one itself."""
    file = folder / "dataset_dict.json"
    if not file.is_file():
        return []
    raw = _read(file)
    splits = raw.get("splits") if isinstance(raw, dict) else None
    if not isinstance(splits, list) or not splits or not all(isinstance(split, str) for split in splits):
        raise RequestError(f"{file}: it does not list the splits of the data set")
    return list(splits)


def dataset_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder that ``save_to_disk`` wrote, in order. Raises ``RequestError`` where it is none."""
    file = folder / "state.json"
    if not file.is_file():
        raise RequestError(
            f"{folder} is a folder without state.json, so not one that datasets' save_to_disk wrote; give such a "
            "folder, or a file"
        )
    raw = _read(file)
    listed = raw.get("_data_files") if isinstance(raw, dict) else None
    try:
        names = [entry["filename"] for entry in listed or []]
    except (TypeError, KeyError):
        names = []
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise RequestError(f"{file}: it does not list the files of the data set")
    if isinstance(raw, dict) and raw.get("_indices_files"):
        raise RequestError(f"{folder}: its rows are chosen by an indices file; save it again with flatten_indices()")
    return [folder / name for name in names]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RequestError(f"{file} cannot be read: {error}") from None
