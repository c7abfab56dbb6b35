"""Files of examples: one a line, in the task's text form or as JSON objects.

Text (any suffix but ``.jsonl``): ``Task.write_line`` of each example, the form of the paper's published data files.
JSON lines (``.jsonl``): ``{"prompt": ..., "answer": ...}``, two strings that are the text form cut after the prompt;
other keys are ignored. UTF-8; the last line may lack its line end, and blank lines at the end are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Literal, TextIO

import numpy
import torch

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.files import replace_file
from foresee.tasks.base import Task
from foresee.tasks.stored import StoredTask

FileFormat = Literal["text", "jsonl"]
Tokens = list[int]


def read_examples(path: Path | str, task: Task) -> Batch:
    """All examples of a file, in its order, with the facts that the task can work out from them.

    Raises ``RequestError`` that names the file, the line and the reason: no such file, not UTF-8, no examples, or a
    line that the task refuses or that lacks its answer.
    """
    path = Path(path)
    # A stored task's own lines are JSON objects already, with its user's fields.
    read = _read_json if path.suffix == ".jsonl" and not isinstance(task, StoredTask) else _read_text
    prompts: list[Tokens] = []
    answers: list[Tokens] = []
    for number, line in enumerate(_lines(path), 1):
        try:
            if not line.strip():
                raise RequestError("the line is empty")
            prompt, answer = read(line, task)
            if not answer:
                raise RequestError("the answer is missing after the prompt")
        except RequestError as error:
            raise RequestError(f"{path}, line {number}: {error}") from None
        prompts.append(prompt)
        answers.append(answer)
    if not prompts:
        raise RequestError(f"{path}: the file holds no examples")
    bare = _pack(prompts, answers)
    return Batch(bare.tokens, bare.prompt_len, bare.answer_len, bare.layout, task.facts_of(bare))


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


def _read_text(line: str, task: Task) -> tuple[Tokens, Tokens]:
    return task.read_line(line)


def _read_json(line: str, task: Task) -> tuple[Tokens, Tokens]:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        raise RequestError('not a JSON object; a line reads {"prompt": "...", "answer": "..."}') from None
    if not isinstance(record, dict):
        raise RequestError('not a JSON object; a line reads {"prompt": "...", "answer": "..."}')
    for key in ("prompt", "answer"):
        if not isinstance(record.get(key), str):
            raise RequestError(f'the key "{key}" is missing or is not a string')
    prompt = record["prompt"].strip()
    if task.read_line(prompt)[1]:
        raise RequestError('"prompt" holds the answer too; it must end where the answer begins')
    return task.read_line(prompt + record["answer"].strip())


def _pack(prompts: list[Tokens], answers: list[Tokens]) -> Batch:
    """Rows of tokens as one batch; shorter rows are padded with token 0."""
    prompt_len = numpy.fromiter(map(len, prompts), numpy.int64, len(prompts))
    answer_len = numpy.fromiter(map(len, answers), numpy.int64, len(answers))
    ends = prompt_len + answer_len
    flat = chain.from_iterable(chain.from_iterable(zip(prompts, answers, strict=True)))
    tokens = numpy.zeros((len(prompts), ends.max()), numpy.int64)
    tokens[numpy.arange(ends.max()) < ends[:, None]] = numpy.fromiter(flat, numpy.int64, ends.sum())
    return Batch.of(torch.from_numpy(tokens), torch.from_numpy(prompt_len), torch.from_numpy(answer_len))


def write_examples(task: Task, batch: Batch, target: Path | TextIO, file_format: FileFormat = "text") -> None:
    """Writes every row of a batch to a file or an open text stream; ``read_examples`` reads it back.

    A file appears whole or not at all. Raises ``RequestError`` where its folder does not exist and ``ForeseeError``
    where writing fails.
    """
    if isinstance(target, Path):
        _write_whole(target, _written(task, batch, file_format))
    else:
        target.writelines(_written(task, batch, file_format))


def _written(task: Task, batch: Batch, file_format: FileFormat) -> Iterator[str]:
    for prompt, answer in batch.pairs():
        line = task.write_line(prompt, answer)
        if file_format == "jsonl" and not isinstance(task, StoredTask):
            start = task.write_line(prompt, [])
            line = json.dumps({"prompt": start, "answer": line[len(start) :]}, ensure_ascii=False)
        yield line + "\n"


def _write_whole(path: Path, lines: Iterator[str]) -> None:
    """Replaces ``path`` by these lines; a folder that does not exist is refused, not made: it is likely misspelled."""
    if not path.parent.is_dir():
        raise RequestError(f"{path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise RequestError(f"{path}: is a folder; give the path of a file")

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)

    replace_file(path, write)
