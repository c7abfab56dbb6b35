"""Which files a path stands for, what they hold, and their rows one after the other.

Text is read by ``rows``; Parquet and Arrow files with pyarrow; of a folder, Hugging Face's ``datasets`` says which of
its files belong to which split. Both are the extra ``data``, imported where they are used.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from os.path import normpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import yaml

from foresee.core.errors import RequestError, require_package
from foresee.core.files import cache_folder, hash_file
from foresee.datasets.fields import BadRowError, Fields, Record
from foresee.datasets.rows import NAME_FIELDS, check_names, open_delimited, read_delimited, read_json, read_text

DELIMITERS = {".csv": ",", ".tsv": "\t"}
TEXT = (".jsonl", ".ndjson", ".json", ".txt", *DELIMITERS)
PACKED = (".gz", ".bz2", ".zst")
COLUMNS = (".parquet", ".arrow", ".feather")
FORMATS = ".jsonl, .json, .csv, .tsv, .txt (all of them also with .gz, .bz2 or .zst), .parquet, .arrow, or a folder"

TESTS = ("test", "validation", "dev")
"""Names of the split that is tested on, the first that there is."""

DESCRIPTIONS = ("state.json", "dataset_info.json", "dataset_dict.json")
"""Files of a folder that say something of its rows and hold none."""
FEW = 5
"""Files of a folder, and fields, that are left out, named at most."""

AT_ONCE = 4096
"""Rows of a Parquet file that are decoded at a time."""


class Row(NamedTuple):
    """A prompt and its response, the number of the file they are in (from 0), and theirs in it (from 1)."""

    file: int
    number: int
    prompt: str
    response: str


class BadRow(NamedTuple):
    """A row that cannot be used: the number of its file, its own, the kind of reason, and the reason in full."""

    file: int
    number: int
    kind: str
    reason: str


def read_rows(files: Sequence[Path], fields: Fields) -> Iterator[Row | BadRow]:
    """Reads every row of files in their order. Raises ``RequestError`` on what is wrong with a file as a whole."""
    for place, file in enumerate(files):
        for number, row in read_records(file, fields):
            try:
                yield from (Row(place, number, *pair) for pair in fields.pairs(row))
            except BadRowError as error:
                yield BadRow(place, number, error.kind, error.reason)


def read_records(file: Path, fields: Fields) -> Iterator[tuple[int, Record]]:
    """Reads the rows of one file by the names of their fields."""
    if (kind := format_of(file)) in COLUMNS:
        return _read_columns(file, fields)
    if kind in DELIMITERS:
        return read_delimited(file, fields, DELIMITERS[kind])
    return read_text(file, fields) if kind == ".txt" else read_json(file)


def other_fields(files: Sequence[Path], fields: Fields) -> list[str]:
    """Names of the fields in the first row that are not read."""
    names = field_names(files[0])
    return [name for name in names if name not in fields.names(names)]


def name_place(files: Sequence[Path], file: int, number: int) -> str:
    """Names a row of a file for people."""
    return f"{files[file]}, {'row' if format_of(files[file]) in COLUMNS else 'line'} {number}"


def refuse(files: Sequence[Path], bad: BadRow) -> RequestError:
    """Makes what is said of the first bad row."""
    place = name_place(files, bad.file, bad.number)
    remedy = f"{NAME_FIELDS}, or mend the row" if bad.kind == "missing field" else "mend the row"
    return RequestError(
        f"{place}: {bad.reason}; {remedy}, or leave bad rows out with skip_bad=true (diagnose: --skip-bad)"
    )


def field_names(file: Path) -> list[str]:
    """The fields of a file's first good row, or the columns of a file of columns; none where there are none."""
    kind = format_of(file)
    if kind in COLUMNS:
        require_package("pyarrow", "data", file)
        import pyarrow

        with ExitStack() as closing, suppress(pyarrow.ArrowException, OSError):  # said where the rows are read
            return _open_columns(file, None, closing)[0]
        return []
    if kind in DELIMITERS:
        with suppress(csv.Error):
            return next(filter(None, open_delimited(file, DELIMITERS[kind])[0]), [])
        return []
    if kind == ".txt":
        return []
    return next((list(row) for _, row in read_json(file) if isinstance(row, dict)), [])


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 of what files hold, in hexadecimal; their names do not count. Raises ``RequestError`` where one cannot be
    read."""
    found = hashlib.sha256(f"{format_of(files[0])} {len(files)}".encode())
    for file in files:
        found.update(file.suffix.encode() + bytes.fromhex(hash_file(file)))
    return found.hexdigest()


def format_of(file: Path) -> str:
    """The end of a file's name that tells its format, that of a packer left out."""
    return Path(file.stem if file.suffix.lower() in PACKED else file.name).suffix.lower()


def _read_columns(path: Path, fields: Fields) -> Iterator[tuple[int, Record]]:
    """Reads two columns of a Parquet or Arrow file, a batch at a time. Raises ``RequestError`` where the file is
    damaged, lacks a column, or has one of neither text nor numbers."""
    require_package("pyarrow", "data", path)
    import pyarrow

    numbers = count(1)
    try:
        with ExitStack() as closing:
            names, batches = _open_columns(path, fields, closing)
            wanted = fields.names(names)
            check_names(f"{path}: there is", "column", names, wanted)
            flat = {fields.prompt, fields.answer}
            for batch in batches:
                columns = [
                    _values(path, name, batch.column(batch.schema.names.index(name)), name in flat) for name in wanted
                ]
                for values in zip(*columns, strict=True):
                    yield next(numbers), dict(zip(wanted, values, strict=True))
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise RequestError(f"{path}: cannot be read: {' '.join(str(error).split()).rstrip('.')}") from None


def _open_columns(path: Path, fields: Fields | None, closing: ExitStack) -> tuple[list[str], Any]:
    """The columns of a file and its record batches, with those columns at least that ``fields`` name."""
    from pyarrow import OSFile, ipc, parquet

    if format_of(path) == ".parquet":
        file = closing.enter_context(parquet.ParquetFile(path))
        names = list(file.schema_arrow.names)
        read = [name for name in fields.names(names) if name in names] if fields else None
        return names, file.iter_batches(batch_size=AT_ONCE, columns=read)
    # Batch by batch from the file, not from a memory map: what was read does not stay in memory.
    source = closing.enter_context(OSFile(str(path)))
    random_access = source.read(6) == b"ARROW1"
    source.seek(0)
    reader = ipc.open_file(source) if random_access else ipc.open_stream(source)
    return reader.schema.names, map(reader.get_batch, range(reader.num_record_batches)) if random_access else reader


def _values(path: Path, field: str, column: Any, flat: bool) -> list[Any]:
    """A column's values, once its offsets are checked; of one that is not ``flat`` lists and structures too."""
    from pyarrow import binary, types

    if types.is_dictionary(column.type):
        column.validate(full=True)
        column = column.dictionary_decode()
    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        column.validate(full=types.is_string_view(kind))
        column = column.cast(binary())  # Arrow does not check that its text is UTF-8
    elif flat and not (
        types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)
    ):
        raise RequestError(f"{path}: column {field!r} holds {kind}; it must hold text or numbers")
    column.validate(full=True)
    values: list[Any] = column.to_pylist()
    return [_at_own_precision(value, kind) for value in values] if "float" in str(kind) else values


def _at_own_precision(value: Any, kind: Any) -> Any:
    """A value with its numbers of float32 and float16, also within it, as such: they are written with fewer digits than
    the float64 nearest to them."""
    if isinstance(value, dict):
        return {name: _at_own_precision(part, kind.field(name).type) for name, part in value.items()}
    if isinstance(value, list) and hasattr(kind, "value_type"):  # a map is a list of pairs, and no text either
        return [_at_own_precision(part, kind.value_type) for part in value]
    return {"float": numpy.float32, "halffloat": numpy.float16}.get(str(kind), lambda same: same)(value)


def find_files(path: str) -> tuple[list[Path], list[Path]]:
    """Finds the files behind a path (a file, several joined by ``+``, a pattern with ``*``, or a folder), and those of
    its test split where it is a folder with splits.

    Of several splits the one named train is taken. Raises ``RequestError`` where there is no file, or of no known kind.
    """
    place = Path(path).expanduser()
    if not place.exists() and "+" in path:
        if "" in path.split("+"):
            raise RequestError(f"{path}: there is no name on one side of a +, which joins files")
        found = [find_files(part) for part in path.split("+")]
        return [file for train, _ in found for file in train], [file for _, test in found for file in test]
    if place.is_dir():
        splits = _find_splits(place)
    else:
        matching = [place] if place.exists() else sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
        if not matching:
            raise RequestError(f"{path}: no such file or folder")
        splits = {"train": matching}
    if "train" not in splits and len(splits) > 1:
        at = next(iter(splits.values()))[0]
        raise RequestError(f"{path} holds the splits {', '.join(splits)} and none is named train; give one, as in {at}")
    train = splits.get("train") or next(iter(splits.values()))
    test = next((splits[name] for name in TESTS if name in splits), []) if "train" in splits else []
    for file in (*train, *test):
        if format_of(file) not in (*TEXT, *COLUMNS):
            raise RequestError(f"{file}: the format is told by the end of the name, which must be one of {FORMATS}")
        if file.suffix.lower() in PACKED and format_of(file) in COLUMNS:
            raise RequestError(f"{file}: such files are compressed within; decompress it first")
    return train, test


def parts_left_out(path: str) -> list[str]:
    """Splits of a folder that are neither trained on nor tested on, and its files that ``datasets`` takes for none."""
    place = Path(path).expanduser()
    if not place.is_dir():
        return []
    splits = _find_splits(place)
    used = next((name for name in TESTS if name in splits), "")
    parts = [f"split {name}" for name in splits if len(splits) > 1 and name not in ("train", used)]
    known = {file for files in splits.values() for file in files}
    files = [file for file in sorted(place.rglob("*")) if format_of(file) in (*TEXT, *COLUMNS) and file not in known]
    others = [f"file {file.relative_to(place)}" for file in files if file.name not in DESCRIPTIONS]
    return parts + others[:FEW] + [f"{len(others) - FEW} more files"] * (len(others) > FEW)


def _find_splits(folder: Path) -> dict[str, list[Path]]:
    """Split to files of a folder as ``save_to_disk`` writes it, or laid out as data sets on the Hub are: by the names
    of files, or as its card says. Nothing is fetched, nothing of the folder is run, and nothing is written into it."""
    require_package("datasets", "data", folder)
    import datasets

    root = folder.resolve()
    try:
        if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(str(root))
            parts = {"train": saved} if isinstance(saved, datasets.Dataset) else dict(saved)
            if any(part._indices is not None for part in parts.values()):
                raise ValueError("its rows are chosen by an indices file; save it again with flatten_indices()")
            found = {name: [each["filename"] for each in part.cache_files] for name, part in parts.items()}
        else:
            with _quiet_hub():
                if "://" in _read_declaration(folder):
                    raise ValueError("its card names files elsewhere, and nothing is fetched")
                builder = datasets.load_dataset_builder(str(root), cache_dir=str(cache_folder() / "hub"))
            found = {str(name): list(files) for name, files in builder.config.data_files.items()}
        return {
            name: [folder / Path(normpath(file)).relative_to(root) for file in files] for name, files in found.items()
        }
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, yaml.YAMLError) as error:
        raise RequestError(
            f"{folder} is read neither as a folder that datasets' save_to_disk wrote nor as one from the Hub: "
            f"{' '.join(str(error).split())}; give such a folder, or a file"
        ) from None


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keeps off standard error what the hub's library says of a card without metadata."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read_declaration(folder: Path) -> str:
    """What a folder from the Hub declares about its files."""
    from huggingface_hub import DatasetCard

    card, settings = folder / "README.md", folder / ".huggingface.yaml"
    found = DatasetCard.load(card).data.to_dict() if card.is_file() else {}
    found |= (yaml.safe_load(settings.read_text(encoding="utf-8")) or {}) if settings.is_file() else {}
    return str(found.get("configs"))
