"""Files of examples: one a line in the task's text form, or rows with a prompt and an answer.

Text (any suffix that names no other format): ``Task.write_line`` of each example, the form of the paper's published
data files; the last line may lack its line end, and blank lines at the end are ignored. JSON lines, lists, CSV, Parquet
and so on, as ``datasets`` reads them: fields ``prompt`` and ``answer`` (or ``response``) hold the text form cut after
the prompt, or what a task of a user's own rows names; other fields are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, TextIO

import torch
from torch.nn.utils.rnn import pad_sequence

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.files import replace_file
from foresee.datasets.request import Request
from foresee.datasets.rows import read_lines
from foresee.datasets.sources import COLUMNS, TEXT, BadRow, Row, format_of, name_place, read_rows
from foresee.tasks.base import Task
from foresee.tasks.data import Data

FileFormat = Literal["text", "jsonl"]


def read_examples(path: Path | str, task: Task) -> Batch:
    """All examples of a file, in its order, with the facts that the task can work out from them.

    Raises ``RequestError`` that names the file, the line and the reason: no such file, not UTF-8, no examples, or a
    line that the task refuses or that lacks its answer.
    """
    path = Path(path)
    tokens, lengths = [], []
    in_rows = path.is_file() and format_of(path) in (*TEXT, *COLUMNS) and format_of(path) != ".txt"
    for number, each in _read_rows(path, task) if in_rows else enumerate(_read_lines(path), 1):
        try:
            prompt, answer = _read_line(each, task) if isinstance(each, bytes) else _read_row(each, task)
        except (RequestError, UnicodeDecodeError) as error:
            why = "the file is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
            raise RequestError(f"{name_place([path], 0, number)}: {why}") from None
        tokens.append(torch.tensor(prompt + answer))
        lengths.append((len(prompt), len(answer)))
    if not tokens:
        raise RequestError(f"{path}: the file holds no examples")
    bare = Batch.of(pad_sequence(tokens, batch_first=True), *torch.tensor(lengths).T.contiguous())
    return replace(bare, facts=task.facts_of(bare))


def _read_rows(path: Path, task: Task) -> Iterator[tuple[int, Row | BadRow]]:
    fields = task.fields if isinstance(task, Data) else Request(path=str(path)).fields
    return ((row.number, row) for row in read_rows([path], fields))


def _read_row(row: Row | BadRow, task: Task) -> tuple[list[int], list[int]]:
    if isinstance(row, BadRow):
        raise RequestError(row.reason)
    if isinstance(task, Data):
        return task.coding.encode(row.prompt, row.response)
    prompt = row.prompt.strip()
    if task.read_line(prompt)[1]:
        raise RequestError("the prompt holds the answer too; it must end where the answer begins")
    return task.read_line(prompt + row.response.strip())


def _read_lines(path: Path) -> list[bytes]:
    """The lines of a file, blank ones at the end left out."""
    lines = [*read_lines(path)]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _read_line(raw: bytes, task: Task) -> tuple[list[int], list[int]]:
    line = raw.decode().rstrip("\r\n")
    if not line.strip():
        raise RequestError("the line is empty")
    prompt, answer = task.read_line(line)
    if not answer:
        raise RequestError("the answer is missing after the prompt")
    return prompt, answer


def write_examples(task: Task, batch: Batch, target: Path | TextIO, file_format: FileFormat = "text") -> None:
    """Writes every row of a batch to a file or an open text stream; ``read_examples`` reads it back.

    A file appears whole or not at all; a folder that does not exist is refused, not made: it is likely misspelled.
    Raises ``RequestError`` where it does not exist and ``ForeseeError`` where writing fails.
    """
    lines = _written(task, batch, file_format)
    if not isinstance(target, Path):
        target.writelines(lines)
        return
    if not target.parent.is_dir():
        raise RequestError(f"{target}: the folder {target.parent} does not exist; make it first")
    if target.is_dir():
        raise RequestError(f"{target}: is a folder; give the path of a file")

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)

    replace_file(target, write)


def _written(task: Task, batch: Batch, file_format: FileFormat) -> Iterator[str]:
    for prompt, answer in batch.pairs():
        line = task.write_line(prompt, answer)
        if file_format == "jsonl" and not isinstance(task, Data):
            start = task.write_line(prompt, [])
            line = json.dumps({"prompt": start, "answer": line[len(start) :]}, ensure_ascii=False)
        yield line + "\n"
