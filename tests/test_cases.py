"""Files in the forms that people have them in, as the files in ``cases`` are, and a file system that has no locks."""

from __future__ import annotations

import fcntl
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from data_files import data, rows_of, write_jsonl
from program import Program
from refusals import refused
from tiny import TASK, arguments

from foresee.core import files
from foresee.core.spec import resolve
from foresee.datasets.inspection import inspect
from foresee.tasks import tasks
from foresee.tasks.example_files import read_examples

CASES = Path(__file__).parent / "cases"
SUMS = [("what is 41 plus 19?", "60"), ("what is 50 plus 83?", "133"), ("what is 6 plus 9?", "15")]
PENS = "A shop sells {} pens at ${} each. How much is that?"

READ: dict[str, tuple[dict[str, Any], int, dict[int, tuple[str, str]]]] = {
    "messages.jsonl": ({}, 60, {**dict(enumerate(SUMS)), 59: ("what is 8 plus 7?", "15")}),
    "sharegpt.json": ({}, 60, {**dict(enumerate(SUMS)), 59: ("what is 8 plus 7?", "15")}),
    "alpaca.json": (
        {"template": r"{instruction}\n{input}", "response": "output"}, 40,
        {0: ("Add the numbers 0\n0 and 1", "1"), 39: ("Add the numbers 39\n39 and 40", "79")},
    ),
    "gsm8k.jsonl": (
        {"prompt": "question"}, 100,
        {
            0: (PENS.format(2, 2), "2 pens cost 2*$2 = $<<2*2=4>>4.\n#### 4"),
            99: (PENS.format(11, 11), "11 pens cost 11*$11 = $<<11*11=121>>121.\n#### 121"),
        },
    ),
    "hindi.jsonl": (
        {"tokenizer": "words"}, 12, {0: ("अनुवाद 0", "नमस्ते हिन्दी"), 11: ("अनुवाद 11", "नमस्ते हिन्दी")},
    ),
    "float32.parquet": (
        {}, 400,
        {
            0: ("what is 79 plus 32?", "0.0"), 1: ("what is 94 plus 45?", "0.1"), 3: ("what is 83 plus 67?", "0.3"),
            399: ("what is 87 plus 31?", "39.9"),
        },
    ),
    "quotes_merge.tsv": ({}, 60, {2: ("say 2", "he 2"), 3: ("say 3", '"hi 3'), 4: ("say 4", 'ho 4"')}),
    "star_medium.jsonl": (
        {"tokenizer": "words"}, 60, {1: ("3 8 16 0 14 7 3 16 8 15 3 14 3 15", "3 8 8 15")},
    ),
    "star_medium.txt": ({}, 60, {1: ("3,8|16,0|14,7|3,16|8,15|3,14/3,15=", "3,8,15")}),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_every_row_of_a_file_is_read_as_it_is_written(name: str) -> None:
    options, count, expected = READ[name]
    task = data(CASES / name, **options)
    rows = rows_of(task)
    assert {place: rows[place] for place in expected} == expected
    summary = inspect(task.stored.request)
    assert (len(rows), summary.rows, summary.bad_rows, summary.left_out) == (count, count, {}, ())
    assert [task.coding.decode(*task.stored.pair(row)) for row in range(count)] == rows


def test_all_rows_are_tested() -> None:
    assert {path.name for path in CASES.iterdir() if path.suffix not in (".py", ".pyc") and path.is_file()} == set(READ)


def test_numbers_of_float32_have_the_digits_that_were_written() -> None:
    assert [answer for _, answer in rows_of(data(CASES / "float32.parquet"))] == [str(n / 10) for n in range(400)]


def test_quotes_between_tabs_join_no_rows() -> None:
    rows = rows_of(data(CASES / "quotes_merge.tsv"))
    assert [prompt for prompt, _ in rows] == [f"say {n}" for n in range(60)]
    assert sum(answer.count('"') for _, answer in rows) == 12


def test_words_of_hindi_are_whole() -> None:
    task = data(CASES / "hindi.jsonl", tokenizer="words")
    frame = len(task.coding.encode("", "")[0])
    for row, (prompt, answer) in enumerate(rows_of(task)):
        asked, written = task.stored.pair(row)
        assert len(asked) - frame == len(prompt.split()) == 2
        assert len(written) - 1 == len(answer.split()) == 2
    assert {"अनुवाद", "नमस्ते", "हिन्दी"} < set(task.vocab)


def test_one_conversation_in_two_forms_is_one_data_set() -> None:
    assert rows_of(data(CASES / "messages.jsonl")) == rows_of(data(CASES / "sharegpt.json"))


def test_alpaca_s_fields_are_named_where_no_template_joins_them() -> None:
    with refused("alpaca.json, line 2: there is no field 'prompt'; the fields are 'instruction', 'input', 'output'"):
        data(CASES / "alpaca.json", response="output")


def as_line(row: dict[str, str]) -> str:
    """A row of pairs of labels, edges and the query and then the path's edges, in the text form of the task."""
    prompt, answer = ([*zip(text.split()[::2], text.split()[1::2], strict=True)] for text in row.values())
    *edges, query = (",".join(pair) for pair in prompt)
    path = [answer[0][0], *(child for _, child in answer)]
    return f"{'|'.join(edges)}/{query}={','.join(path)}\n"


def test_examples_of_star_medium(tmp_path: Path) -> None:
    """Pairs of labels without marks are not the task's text form, and say so; written in it they are its examples."""
    task = resolve(tasks, "star-medium").build()
    found = read_examples(CASES / "star_medium.txt", task)
    assert len(found) == 60
    for prompt, answer in found.pairs():
        task.check_prompt(prompt)
        assert task.fault(prompt, answer) is None
    with refused("star_medium.jsonl, line 1: there is no '=' where the problem ends; a line reads u,v|u,v|.../start,"):
        read_examples(CASES / "star_medium.jsonl", task)
    lines = [as_line(json.loads(line)) for line in (CASES / "star_medium.jsonl").read_text().splitlines()]
    assert (CASES / "star_medium.txt").read_text() == "".join(lines)
    parts = [line.strip().partition("=") for line in lines]
    write_jsonl(tmp_path / "a.jsonl", [(prompt + equals, answer) for prompt, equals, answer in parts])
    assert torch.equal(read_examples(tmp_path / "a.jsonl", task).tokens, found.tokens)


@pytest.mark.slow
def test_star_medium_is_trained_on_a_file(tmp_path: Path, program: Program) -> None:
    backbone = "--backbone=transformer:layers=5,width=8,heads=1"
    more = [backbone, "--steps=2", "--batch=8", "--test=20", f"--runs={tmp_path}"]
    found = program.json("train", "star-medium", f"--data={CASES / 'star_medium.txt'}", *more)
    assert (found["steps"], found["rows"]["exact"]["n"]) == (2, 20)
    asked = f"--data={CASES / 'star_medium.jsonl'}"
    assert "star_medium.jsonl, line 1: there is no '='" in program.refusal("train", "star-medium", asked, *more)


@pytest.mark.parametrize("number", [37, 38, 95])
def test_a_file_system_without_locks_is_named_and_can_be_done_without(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        monkeypatch.setattr(sys, "argv", ["", "train", TASK, *arguments(tmp_path, "--steps=4", "--json", *more)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(CASES / "no_locks.py"), run_name="__main__")
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    monkeypatch.setattr(fcntl, "flock", fcntl.flock)  # so that what the script puts there is undone
    monkeypatch.setenv("ERR", str(number))
    monkeypatch.delenv(files.NO_LOCKS, raising=False)
    status, out, err = run()
    assert (status, out, err.count("\n")) == (2, "", 1)
    for words in ("cannot be locked", f"({os.strerror(number)})", "its file system knows no locks", "--no-lock"):
        assert words in err
    monkeypatch.setenv(files.NO_LOCKS, "")
    status, out, _ = run("--no-lock")
    assert (status, json.loads(out)["steps"]) == (0, 4)
    assert os.environ[files.NO_LOCKS] == "1"
