"""A user's own file as a task: rows, splits, text form, tokenizers, training."""

from __future__ import annotations

import csv
import gzip
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy
import pyarrow
import pytest
from data_files import data, sums, write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc, parquet
from tiny import tiny

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.files import cache_folder
from foresee.datasets.inspection import DataSummary, inspect
from foresee.datasets.sources import Row, read_rows
from foresee.report import report
from foresee.tasks.data import Data
from foresee.tasks.example_files import read_examples, write_examples
from foresee.training.data import StoredData, draw
from foresee.training.loop import train
from foresee.training.run import Run, find_runs, load

SUMS = sums(400)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESEE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("data") / "sums.jsonl", SUMS)


def rows_of(task: Data) -> list[tuple[str, str]]:
    """The task's rows as text, in the order of the file."""
    stored = task.stored
    held = {stored.place(row): stored.pair(row) for row in range(len(stored))}
    rows = [row for row in read_rows(stored.files, task.fields) if row[:2] in held]
    for row in rows:
        assert isinstance(row, Row)
        assert task.read_line(json.dumps({task.prompt: row.prompt, task.fields[1]: row.response})) == held[row[:2]]
    assert len(rows) == len(held)
    return [(row[2], row[3]) for row in rows]


# Rows and splits


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "words"])
def test_the_splits_hold_every_row_once_and_share_no_prompt(file: Path, tokenizer: str) -> None:
    task = data(file, tokenizer=tokenizer)
    written = {}
    for split in ("train", "test"):
        rows = task.rows(split)
        written[split] = [json.loads(task.write_line(*rows[n])) for n in range(len(rows))]
        batch = rows.batch(numpy.arange(len(rows)))
        assert (task.held_out(batch) == (split == "test")).all()
        assert [(prompt, answer) for prompt, answer in batch.pairs()] == [rows[n] for n in range(len(rows))]
    spaced = [
        (" ".join(task.coding.tokenizer.symbols[t] for t in task.coding.tokenizer.encode([p])[0].tolist()), r)
        for p, r in SUMS
    ]
    expected = spaced if tokenizer == "words" else SUMS
    assert sorted((row["prompt"], row["response"]) for rows in written.values() for row in rows) == sorted(expected)
    assert 25 < len(written["test"]) < 80  # one in eight of 400
    assert not {row["prompt"] for row in written["train"]} & {row["prompt"] for row in written["test"]}


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "words"])
def test_answers_end_and_are_verified_by_the_file(file: Path, tokenizer: str) -> None:
    task = data(file, tokenizer=tokenizer)
    for row in range(20):
        prompt, answer = task.rows("train")[row]
        assert answer[-1] == task.end
        assert answer.count(task.end) == 1
        assert task.end not in prompt
        assert task.solve(prompt) == answer
        assert task.verify(prompt, answer)
        assert not task.verify(prompt, [*answer, 0])
        assert not task.verify(prompt, answer[:-1])
        assert not task.verify(prompt, [(answer[0] + 1) % task.end, *answer[1:]])
        assert task.read_line(task.write_line(prompt, answer)) == (prompt, answer)
        assert task.read_line(task.write_line(prompt, [])) == (prompt, [])
    with pytest.raises(RequestError, match=r"no row of .* has this prompt"):
        task.solve(task.read_line("not there")[0] if tokenizer == "bytes" else [0, 0, 0])


def test_sampling_draws_rows_of_the_file(file: Path) -> None:
    task = data(file)
    batch = task.sample(200, seeds.stream("sample"))
    assert all(task.verify(prompt, answer) for prompt, answer in batch.pairs())
    assert len({tuple(prompt) for prompt, _ in batch.pairs()}) > 100
    again = task.sample(200, seeds.stream("sample"))
    assert (batch.tokens == again.tokens).all()


def test_drawing_gives_each_row_once_at_most(file: Path) -> None:
    task = data(file)
    text = f"data:{file}"
    everything = draw(task, text, "train", 100_000, 0)
    assert len(everything) == len(task.rows("train"))
    assert len(numpy.unique(task.identity(everything))) == len(everything)
    assert draw(task, text, "train", 10, 0).pairs() is not None
    assert list(draw(task, text, "train", 10, 0).pairs()) == list(everything.pairs())[:10]
    assert list(draw(task, text, "train", 10, 1).pairs()) != list(everything.pairs())[:10]


def test_an_epoch_holds_every_training_row_once_and_at_most_as_many_as_asked_for(file: Path) -> None:
    task = data(file)
    for n, expected in ((10_000, len(task.rows("train"))), (64, 64)):
        stored = StoredData(task, "data", 0, n)
        assert len(stored) == expected
        seen: list[int] = []
        steps = -(-expected // 16)
        for step in range(steps):
            seen += task.identity(stored.batch_at(step, 16)).tolist()
        assert len(set(seen[:expected])) == expected
        first, again = stored.batch_at(1, 16), StoredData(task, "data", 0, n).batch_at(1, 16)
        assert (first.tokens == again.tokens).all()


def test_chance_is_the_share_of_the_most_frequent_response(tmp_path: Path) -> None:
    assert (
        data(write_jsonl(tmp_path / "a.jsonl", [(str(n), "yes" if n % 4 else "no") for n in range(40)])).chance == 0.75
    )


def test_a_boundary_tells_a_short_prompt_from_the_start_of_a_longer_one(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [("ab", "cd"), ("abc", "d")])
    task = data(path)
    assert task.read_line("ab")[0][-1] == task.vocab.token("<response>")
    bare = data(path, boundary="none")
    assert bare.vocab.decode(bare.read_line("ab")[0]) == ["a", "b"]


def test_responses_of_one_length_need_no_end(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [(f"a{n}", f"b{n % 7}") for n in range(40)])
    task = data(path, ending="none")
    assert task.end is None
    assert task.answer_length == 2
    prompt, answer = task.read_line('{"prompt": "a1", "response": "b1"}')
    assert task.vocab.decode(answer) == ["b", "1"]
    assert task.write_line(prompt, answer) == '{"prompt": "a1", "response": "b1"}'
    assert task.verify(prompt, answer)
    rows = task.rows("train")
    assert all(task.verify(*rows[row]) for row in range(len(rows)))
    assert data(path).answer_length == 3


@pytest.mark.parametrize("other", ["bc", "bcde"])
def test_no_end_is_refused_where_lengths_differ(tmp_path: Path, other: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [("a", "bcd"), ("b", "cde"), ("c", other)])
    with pytest.raises(RequestError, match=r"ending=none needs responses of one length.*a\.jsonl, line \d"):
        data(path, ending="none")


def test_the_rarest_symbols_become_unknown(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [("aaa bb c", "aa b c"), ("aaa bb", "z")])
    task = data(path, vocabulary=2)
    assert task.vocab.symbols == (" ", "a", "<unknown>", "<response>", "<end>")
    prompt, answer = task.read_line('{"prompt": "aq", "response": "b"}')
    assert task.vocab.decode(prompt) == ["a", "<unknown>", "<response>"]
    assert task.write_line(prompt, answer) == '{"prompt": "a\ufffd", "response": "\ufffd"}'
    words = data(path, vocabulary=2, tokenizer="words")
    assert words.vocab.symbols[:2] == ("aaa", "bb")


# An explicit test file


def test_a_test_file_is_the_test_split_and_what_it_shares_is_not_trained_on(tmp_path: Path) -> None:
    ours = write_jsonl(tmp_path / "train.jsonl", SUMS[:300])
    theirs = write_jsonl(tmp_path / "test.jsonl", SUMS[290:310])
    task = data(ours, test=theirs)
    assert (len(task.rows("train")), len(task.rows("test"))) == (290, 20)
    assert json.loads(task.write_line(*task.rows("test")[19]))["prompt"] == SUMS[309][0]
    test = task.rows("test").batch(range(20))
    assert task.held_out(test).all()
    assert not task.held_out(task.rows("train").batch(range(290))).any()
    summary = inspect(task.stored.request)
    assert (summary.overlap.prompts, summary.overlap.rows) == (10, 10)
    assert summary.overlap.examples[0].prompt == SUMS[290][0]


# Formats


def write_as(kind: str, folder: Path, rows: list[tuple[str, str]]) -> Path:
    """The rows in a format."""
    path = folder / f"rows{kind}"
    columns = {
        "prompt": [row[0] for row in rows],
        "other": list(range(len(rows))),
        "response": [row[1] for row in rows],
    }
    table = pyarrow.table(columns)
    if kind == ".csv":
        with path.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    elif kind == ".parquet":
        parquet.write_table(table, path, row_group_size=3)
    elif kind == ".arrow":
        with ipc.new_file(str(path), table.schema) as opened:
            opened.write_table(table, max_chunksize=2)
    elif kind == "":
        datasets.Dataset(table).save_to_disk(path, num_shards=2)
    elif kind == ".jsonl.gz":
        with gzip.open(path, "wt", encoding="utf-8") as opened:
            opened.writelines(json.dumps(dict(zip(("prompt", "response"), row, strict=True))) + "\n" for row in rows)
    else:
        write_jsonl(path, rows)
    return path


TRICKY = [
    ("plain", "1"), ('a "quoted", text', "x\ty"), ("two\nlines", "and\r\nmore"), ("é 猫 🙂", "ß"),
    (" spaces ", "kept "),
]  # fmt: skip


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".jsonl.gz", ".csv", ".parquet", ".arrow", ""])
def test_every_format_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    assert rows_of(data(write_as(kind, tmp_path, TRICKY), tokenizer="bytes")) == TRICKY


def test_between_tabs_a_quotation_mark_is_text_unless_the_header_is_quoted(tmp_path: Path) -> None:
    rows = [("say 3", '"hi 3'), ("say 4", 'ho 4"'), ("say 5", '"whole"'), ("é", "a , b")]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(map("\t".join, [("prompt", "response"), *rows])), encoding="utf-8")
    assert rows_of(data(path)) == rows
    path.write_text('prompt\tresponse\na\tb\na\t"b ""c"""\n')
    with pytest.raises(RequestError, match=r"line 3: a field is written in CSV's quotes"):
        data(path)
    path.write_text('"prompt"\t"response"\n"a ""b"""\t"c\td"\n')
    assert rows_of(data(path, tokenizer="bytes")) == [('a "b"', "c\td")]


def test_a_long_field_is_read_and_the_limit_of_the_process_stays(tmp_path: Path) -> None:
    path, long, limit = tmp_path / "a.csv", "x" * 200_000, csv.field_size_limit()
    path.write_text(f"prompt,response\n{long},b\n")
    assert rows_of(data(path)) == [(long, "b")]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_numbers_of_any_precision_are_written_with_their_own_digits(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    values = numpy.array([0.1, 2.5, 1e-5, 7], kind)
    parquet.write_table(pyarrow.table({"prompt": list("abcd"), "response": pyarrow.array(values)}), path)
    assert [response for _, response in rows_of(data(path))] == ["0.1", "2.5", "1e-05", "7.0"]


def test_words_keep_their_combining_marks(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [("अनुवाद 1", "नमस्ते हिन्दी"), ("e\u0301te\u0301", "क्\u200dष")])
    symbols = data(path, tokenizer="words").vocab.symbols
    assert set(symbols[:-3]) == {"अनुवाद", "1", "नमस्ते", "हिन्दी", "e\u0301te\u0301", "क्\u200dष"}


def test_an_unknown_token_is_never_right_and_is_counted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [(f"q{n}", f"w{n}") for n in range(200)])
    with pytest.warns(ForeseeWarning, match=r"test answers hold a token that is not among the 4"):
        run = train(tiny(task=f"data:{path},tokenizer=words,vocabulary=1,boundary=none", steps=4), tmp_path / "runs")
    task = run.task
    prompt, answer = task.read_line('{"prompt": "q1", "response": "w1"}')
    assert answer == [task.unknown, task.end]
    assert not task.verify(prompt, answer)
    assert task.chance < 0.1
    rows: Any = run.rows
    assert [rows["exact"]["value"], rows["unknown"]["value"]] == [0, 1]
    assert [rows["free"][0]["value"], rows["forced"][0]["value"]] == [0, 0]


def test_a_folder_of_splits_brings_its_test_split(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"q": [row[0] for row in SUMS[:25]], "a": [row[1] for row in SUMS[:25]]})
    for names in (("train", "test"), ("one", "two")):
        parts = dict(zip(names, (table.select(range(20)), table.select(range(20, 25))), strict=True))
        datasets.DatasetDict(parts).save_to_disk(tmp_path / names[0])
    task = data(tmp_path / "train", prompt="q", response="a")
    assert (len(task.rows("train")), len(task.rows("test"))) == (20, 5)
    assert len(data(tmp_path / "one" / "one", prompt="q", response="a").stored) == 20
    with pytest.raises(RequestError, match="holds the splits one, two and none is named train"):
        data(tmp_path / "one", prompt="q", response="a")


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {}\n---\n"


@pytest.mark.usefixtures("_no_network")
def test_a_folder_from_the_hub_has_its_splits_by_name_or_as_its_card_says(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for split, rows in (("train", SUMS[:20]), ("test", SUMS[20:25])):
        table = pyarrow.table({"prompt": [row[0] for row in rows], "response": [row[1] for row in rows]})
        parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    task = data(folder)
    assert (len(task.rows("train")), len(task.rows("test"))) == (20, 5)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    (folder / "README.md").write_text(CARD.format("data/test-*"))
    assert len(data(folder).stored) == 5
    for elsewhere, message in (("https://example.com/a.csv", "elsewhere"), ("../b.jsonl", "give such a folder")):
        write_jsonl(tmp_path / "b.jsonl", SUMS[:3])
        (folder / "README.md").write_text(CARD.format(elsewhere))
        with pytest.raises(RequestError, match=message):
            data(folder)


def test_without_the_extra_libraries_text_is_read_and_the_rest_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("datasets", "pyarrow", "tokenizers", "transformers"):
        monkeypatch.setitem(sys.modules, library, None)
    assert len(data(write_jsonl(tmp_path / "a.jsonl", SUMS[:9]), tokenizer="words").stored) == 9
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for path, library in ((tmp_path / "a.parquet", "pyarrow"), (tmp_path, "datasets")):
        with pytest.raises(RequestError, match=rf"{library}; pip install 'foresee-lm\[data\]'"):
            data(path)


@pytest.mark.usefixtures("_no_network")
def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RequestError, match="scripts are no longer supported"):
        data(tmp_path / "set")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"prompt": "a", "response": "b"}\n{"prompt": "c", "response": "d"}',
        b'\xef\xbb\xbf{"prompt": "a", "response": "b"}\r\n{"prompt": "c", "response": "d"}\r\n',
        b'\n{"prompt": "a", "response": "b"}\n\n   \n{"prompt": "c", "response": "d"}\n\n',
        b'{"response": "b", "prompt": "a", "x": NaN}\n{"prompt": "c", "prompt": "c", "response": "d"}\n',
    ],
    ids=["no line end", "mark and CRLF", "blank lines", "other fields"],
)
def test_files_as_people_have_them(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(raw)
    assert rows_of(data(path)) == [("a", "b"), ("c", "d")]


def test_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": 1.10, "response": 123456789012345678901234567890}\n')
    assert rows_of(data(path)) == [("1.10", "123456789012345678901234567890")]


# Bad rows

BAD_LINES = {
    b"nope": ("not JSON", r"line 2: column 1: not JSON: Expecting value"),
    b'{"prompt": "a", "response"}': ("not JSON", r"line 2: column 27: not JSON"),
    b"[1, 2]": ("not an object", r"line 2: a JSON list"),
    b"7": ("not an object", r"line 2: not a JSON object"),
    b'{"prompt": "a"}': ("missing field", r"line 2: there is no field 'response'; the fields are 'prompt'"),
    b'{"prompt": "a", "response": null}': ("missing field", r"line 2: field 'response' is null"),
    b'{"prompt": "a", "response": ""}': ("empty field", r"line 2: field 'response' is empty"),
    b'{"prompt": "a", "response": " "}': ("empty field", r"line 2: field 'response' is blank"),
    b'{"prompt": ["a"], "response": "b"}': ("nested value", r"line 2: field 'prompt' holds a list"),
    b'{"prompt": {"a": 1}, "response": "b"}': ("nested value", r"line 2: field 'prompt' holds an object"),
    b'{"prompt": true, "response": "b"}': ("wrong type", r"line 2: field 'prompt' is true"),
    b'{"prompt": NaN, "response": "b"}': ("wrong type", r"line 2: field 'prompt' is nan"),
    b'{"prompt": "\xff", "response": "b"}': ("undecodable bytes", r"line 2: column 13: the byte 0xFF is not UTF-8"),
    b'{"prompt": "\\ud800", "response": "b"}': ("undecodable bytes", r"line 2: field 'prompt' holds half a surrogate"),
    b"[" * 100_000: ("not JSON", r"line 2: (nested too deeply|column \d+: not JSON)"),
    b'{"prompt": "aaaaaaaaa", "response": "b"}': (
        "too long",
        r"line 2: the prompt has 9 tokens, more than max_prompt=8",
    ),
    b'{"prompt": "a", "response": "bbbbbb"}': (
        "too long",
        r"line 2: the answer has 6 tokens, more than max_answer=5",
    ),
}


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:40].decode("latin-1"))
def test_a_bad_line_is_named_or_left_out_and_counted(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = b'{"prompt": "a", "response": "b"}\n'
    path.write_bytes(good + line + b"\n" + good)
    kind, message = BAD_LINES[line]
    limits = {"max_prompt": 8, "max_answer": 5}
    with pytest.raises(RequestError, match=f"a.jsonl, {message}"):
        data(path, **limits)
    task = data(path, skip_bad=True, **limits)
    assert rows_of(task) == [("a", "b"), ("a", "b")]
    with pytest.raises(RequestError, match=f"a.jsonl, {message}"):  # from the cache, too
        data(path, **limits)
    summary = inspect(task.stored.request)
    assert summary.bad_rows == {kind: 1}
    assert "line 2" in summary.bad_examples[0]
    assert (summary.rows, summary.duplicates.rows) == (2, 1)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"prompt,response\na,b,c\n", r"line 2: the row has 3 fields, but the header has 2"),
        (b'prompt,response\na,b\n"x\ny",\n', r"line 3: field 'response' is empty"),
        (b"prompt,response\na,\xff\n", r"line 2: field 'response' holds the byte 0xFF"),
        (b'prompt,response\na,"b', r"line 2: not CSV: unexpected end of data"),
        (b'prompt,response\na,"b"c\n', r"line 2: not CSV"),
        (b"question,response\na,b\n", r"the header has no field 'prompt'; its fields are 'question', 'response'"),
        (b"prompt,response,prompt\na,b,c\n", r"the header has more than one field 'prompt'"),
        (b"prompt,response\n", r"it holds no rows"),
        (b"", r"it holds no rows"),
    ],
)
def test_bad_rows_of_a_csv_file(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(raw)
    with pytest.raises(RequestError, match=message):
        data(path)


def test_bad_rows_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["a", None, "c"], "response": [1, 2, None]}), path)
    with pytest.raises(RequestError, match=r"a.parquet, row 2: field 'prompt' is null"):
        data(path)
    assert rows_of(data(path, skip_bad=True)) == [("a", "1")]
    parquet.write_table(pyarrow.table({"prompt": [["a"]], "response": ["b"]}), path)
    with pytest.raises(RequestError, match="column 'prompt' holds list"):
        data(path)
    broken = pyarrow.array([b"a", b"\xff"]).cast(pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"prompt": broken, "response": ["b", "b"]}), path)
    with pytest.raises(RequestError, match="row 2: field 'prompt' holds the byte 0xFF"):
        data(path)
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(RequestError, match=r"a.parquet: cannot be read"):
        data(path)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file or folder"):
        data(tmp_path / "none.jsonl")
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(RequestError, match="the format is told by the end of the name"):
        data(tmp_path / "a.xyz")
    (tmp_path / "lfs.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(RequestError, match="is a Git LFS pointer"):
        data(tmp_path / "lfs.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="neither as a folder that datasets' save_to_disk wrote nor"):
        data(tmp_path / "empty")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "a", "response": "b"}\n' * 50)[:-12])
    with pytest.raises(RequestError, match="the compressed file is damaged"):
        data(tmp_path / "a.jsonl.gz")
    (tmp_path / "wide.jsonl").write_bytes('{"prompt": "a"}'.encode("utf-16"))
    with pytest.raises(RequestError, match="UTF-16"):
        data(tmp_path / "wide.jsonl")
    good = write_jsonl(tmp_path / "good.jsonl", SUMS[:5])
    for options, message in (
        ({"prompt": "response"}, "name the same field"),
        ({"tokenizer": "letters"}, "tokenizer=letters must be one of"),
        ({"max_prompt": 0}, "max_prompt=0 must be at least 1"),
    ):
        with pytest.raises(RequestError, match=message):
            data(good, **options)
    assert not list(cache_folder().rglob("*.part"))


@given(lines=st.lists(st.binary(max_size=40), max_size=8), kind=st.sampled_from([".jsonl", ".csv", ".tsv"]))
def test_whatever_is_in_a_file_it_is_read_or_refused(
    lines: list[bytes], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"a{kind}"
    good = b'{"prompt": "a", "response": "b"}' if kind == ".jsonl" else b"a\tb" if kind == ".tsv" else b"a,b"
    header = [] if kind == ".jsonl" else [b"prompt\tresponse" if kind == ".tsv" else b"prompt,response"]
    path.write_bytes(b"\n".join([*header, good, *lines]))
    task = data(path, skip_bad=True, tokenizer="bytes")
    assert rows_of(task)[0] == ("a", "b")
    if task.stored.bad_counts:
        with pytest.raises(RequestError, match=re.escape(f"{path}, line ")):
            data(path, tokenizer="bytes")
    else:
        assert len(data(path, tokenizer="bytes").stored) == len(task.stored)


# The cache


def test_a_changed_file_is_read_anew_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", SUMS[:10])
    assert len(data(path).stored) == 10
    made = sorted(cache_folder().glob("rows/*/*.*[0-9]"))
    assert len(data(path).stored) == 10
    assert sorted(cache_folder().glob("rows/*/*.*[0-9]")) == made
    write_jsonl(path, SUMS[:11])
    assert len(data(path).stored) == 11
    assert len(list(cache_folder().glob("rows/*/*.*[0-9]"))) == 2 * len(made)


def test_a_cache_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", SUMS[:10])
    expected = rows_of(data(path))
    for array in sorted(cache_folder().glob("rows/*/*.*[0-9]")):
        array.write_bytes(array.read_bytes()[:-1])
        assert rows_of(data(path)) == expected
    for meta in sorted(cache_folder().rglob("*.json")):
        meta.write_text("{}")
        assert rows_of(data(path)) == expected


# Inspection


def test_duplicates_and_contradictions_are_found(tmp_path: Path) -> None:
    rows = [("a", "1"), ("b", "1"), ("a", "1"), ("a", "2"), ("c", "3"), ("c", "3"), ("c", "3")]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found: DataSummary = inspect(data(path).stored.request)
    assert (found.duplicates.prompts, found.duplicates.rows) == (2, 3)
    assert found.duplicates.examples[0].places == (f"{path}, line 1", f"{path}, line 3")
    assert (found.contradictions.prompts, found.contradictions.rows) == (1, 3)
    assert set(found.contradictions.examples[0].responses) == {"1", "2"}
    assert found.response_lengths == {"0%": 2, "25%": 2, "50%": 2, "75%": 2, "95%": 2, "100%": 2}
    assert isinstance(found.json()["duplicates"]["rows"], int)
    both = data(path)
    prompt = both.read_line("a")[0]
    assert all(both.verify(prompt, both.coding.encode("a", text)[1]) for text in "12")
    assert not both.verify(prompt, both.coding.encode("a", "3")[1])


# Runs


def test_a_run_trains_on_the_file_and_is_another_once_the_file_is_another(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sums.jsonl"
    copy.write_bytes(file.read_bytes())
    spec = tiny(task=f"data:{copy}", steps=4, batch=16)
    run = train(spec, tmp_path / "runs")
    exact = run.rows["exact"]
    assert isinstance(exact, dict)
    assert 10 <= exact["n"] <= 40  # half of the test rows; the other half was watched
    again = load(run.dir)
    assert again.generate("1+2=") == again.generate('{"prompt": "1+2="}')
    assert set(again.generate("1+2=")) <= set("0123456789+=\ufffd")
    write_jsonl(copy, SUMS[:399])
    assert tiny(task=f"data:{copy}", steps=4, batch=16).digest != spec.digest


def test_what_came_of_a_run_can_be_told_without_the_file(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sums.jsonl"
    copy.write_bytes(file.read_bytes())
    run = train(tiny(task=f"data:{copy}", steps=4, batch=16), tmp_path / "runs")
    said = run.verdict
    copy.unlink()
    again = load(run.dir)
    assert again.verdict == said
    (found,) = find_runs(run.dir)
    assert isinstance(found, Run)
    assert found.verdict == said
    assert "no verdict can be given" not in report(run, out=tmp_path / "page.html").read_text()


def test_fresh_examples_cannot_be_had(file: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="are those of its file"):
        train(tiny(task=f"data:{file}", data="fresh"), tmp_path)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", SUMS[:1])
    with pytest.raises(RequestError, match="no row belongs to the"):
        train(tiny(task=f"data:{path}"), tmp_path)


@pytest.mark.parametrize("name", ["some.txt", "some.jsonl"])
def test_rows_are_written_and_read_back_as_json_lines(name: str, file: Path, tmp_path: Path) -> None:
    task = data(file)
    batch: Batch = task.rows("train").batch(range(30))
    write_examples(task, batch, tmp_path / name, "jsonl")
    assert json.loads((tmp_path / name).read_text().splitlines()[0]).keys() == {"prompt", "response"}
    assert list(read_examples(tmp_path / name, task).pairs()) == list(batch.pairs())
