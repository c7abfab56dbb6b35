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
from foresee.datasets.rows import read_lines
from foresee.tasks.base import Task
from foresee.tasks.data import Data

FileFormat = Literal["text", "jsonl"]
OBJECT = 'not a JSON object; a line reads {"prompt": "...", "answer": "..."}'


def read_examples(path: Path | str, task: Task) -> Batch:
    """All examples of a file, in its order, with the facts that the task can work out from them.

    Raises ``RequestError`` that names the file, the line and the reason: no such file, not UTF-8, no examples, or a
    line that the task refuses or that lacks its answer.
    """
    path = Path(path)
    # A stored task's own lines are JSON objects already, with its user's fields.
    as_json = path.suffix == ".jsonl" and not isinstance(task, Data)
    rows, lengths = [], []
    lines = [*read_lines(path)]
    while lines and not lines[-1].strip():
        lines.pop()
    for number, raw in enumerate(lines, 1):
        try:
            if not (line := raw.decode().rstrip("\r\n")).strip():
                raise RequestError("the line is empty")
            prompt, answer = _read_json(line, task) if as_json else task.read_line(line)
            if not answer:
                raise RequestError("the answer is missing after the prompt")
        except (RequestError, UnicodeDecodeError) as error:
            why = "the file is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
            raise RequestError(f"{path}, line {number}: {why}") from None
        rows.append(torch.tensor(prompt + answer))
        lengths.append((len(prompt), len(answer)))
    if not rows:
        raise RequestError(f"{path}: the file holds no examples")
    bare = Batch.of(pad_sequence(rows, batch_first=True), *torch.tensor(lengths).T.contiguous())
    return replace(bare, facts=task.facts_of(bare))


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
        if file_format == "jsonl" and not isinstance(task, Data):
            start = task.write_line(prompt, [])
            line = json.dumps({"prompt": start, "answer": line[len(start) :]}, ensure_ascii=False)
        yield line + "\n"
