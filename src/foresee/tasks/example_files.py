"""Files of examples: one a line, in the task's text form or as JSON objects.

Text (any suffix but ``.jsonl``): ``Task.write_line`` of each example, the form of the paper's published data files.
JSON lines (``.jsonl``): ``{"prompt": ..., "answer": ...}``, two strings that are the text form cut after the prompt;
other keys are ignored. UTF-8; the last line may lack its line end, and blank lines at the end are ignored.
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
from foresee.tasks.base import Task
from foresee.tasks.stored import StoredTask

FileFormat = Literal["text", "jsonl"]
OBJECT = 'not a JSON object; a line reads {"prompt": "...", "answer": "..."}'


def read_examples(path: Path | str, task: Task) -> Batch:
    """All examples of a file, in its order, with the facts that the task can work out from them.

    Raises ``RequestError`` that names the file, the line and the reason: no such file, not UTF-8, no examples, or a
    line that the task refuses or that lacks its answer.
    """
    path = Path(path)
    # A stored task's own lines are JSON objects already, with its user's fields.
    as_json = path.suffix == ".jsonl" and not isinstance(task, StoredTask)
    rows, lengths = [], []
    for number, line in enumerate(_lines(path), 1):
        try:
            if not line.strip():
                raise RequestError("the line is empty")
            prompt, answer = _read_json(line, task) if as_json else task.read_line(line)
            if not answer:
                raise RequestError("the answer is missing after the prompt")
        except RequestError as error:
            raise RequestError(f"{path}, line {number}: {error}") from None
        rows.append(torch.tensor(prompt + answer))
        lengths.append((len(prompt), len(answer)))
    if not rows:
        raise RequestError(f"{path}: the file holds no examples")
    bare = Batch.of(pad_sequence(rows, batch_first=True), *torch.tensor(lengths).T.contiguous())
    return replace(bare, facts=task.facts_of(bare))


def _lines(path: Path) -> list[str]:
    """The file's lines without their ends, blank ones at the end left out."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise RequestError(f"{path}, line {number}: the file is not UTF-8 text") from None
    # Not str.splitlines, which also ends lines at characters that editors do not count as line ends.
    return text.rstrip().split("\n") if text.strip() else []


def _read_json(line: str, task: Task) -> tuple[list[int], list[int]]:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        raise RequestError(OBJECT) from None
    if not isinstance(record, dict):
        raise RequestError(OBJECT)
    for key in ("prompt", "answer"):
        if not isinstance(record.get(key), str):
            raise RequestError(f'the key "{key}" is missing or is not a string')
    prompt = record["prompt"].strip()
    if task.read_line(prompt)[1]:
        raise RequestError('"prompt" holds the answer too; it must end where the answer begins')
    return task.read_line(prompt + record["answer"].strip())


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
        if file_format == "jsonl" and not isinstance(task, StoredTask):
            start = task.write_line(prompt, [])
            line = json.dumps({"prompt": start, "answer": line[len(start) :]}, ensure_ascii=False)
        yield line + "\n"
