"""A user's own file as a task: rows, splits, text form, tokenizers, training."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from data_files import data, rows_of, sums, write_jsonl
from pyarrow import parquet
from tiny import tiny

from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.files import cache_folder
from foresee.datasets.inspection import DataSummary, inspect
from foresee.tasks.example_files import read_examples, write_examples
from foresee.training.data import StoredData, draw
from foresee.training.examples import say_unread, warn_of_rows
from foresee.training.loop import train

SUMS = sums(400)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESEE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("data") / "sums.jsonl", SUMS)


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


def test_drawing_gives_each_row_once_at_most(file: Path, tmp_path: Path) -> None:
    task = data(file)
    text = f"data:{file}"
    everything = draw(task, text, "train", 100_000, 0)
    assert len(everything) == len(task.rows("train"))
    assert len(numpy.unique(task.identity(everything))) == len(everything)
    assert list(draw(task, text, "train", 10, 0).pairs()) == list(everything.pairs())[:10]
    assert list(draw(task, text, "train", 10, 1).pairs()) != list(everything.pairs())[:10]
    with pytest.raises(RequestError, match=r"no row of .* has this prompt"):
        task.solve([0, 0, 0])
    answers = write_jsonl(tmp_path / "a.jsonl", [(str(n), "yes" if n % 4 else "no") for n in range(40)])
    assert data(answers).chance == 0.75  # the share of the most frequent response


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


def test_an_answer_of_nearly_every_row_is_warned_of(tmp_path: Path) -> None:
    task = data(write_jsonl(tmp_path / "a.jsonl", [(str(n), "yes" if n % 40 else "no") for n in range(80)]))
    with pytest.warns(ForeseeWarning, match=r"one answer is that of 97.5% of the rows"):
        warn_of_rows(task, task.rows("test").batch([0]))


def test_fields_that_are_not_read_are_said_in_one_sentence_and_nothing_where_all_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": n, "prompt": f"{n}", "answer": f"{n % 7}"}) + "\n" for n in range(80)))
    with pytest.warns(ForeseeWarning) as said:
        train(tiny(task=f"data:{path}", steps=2), tmp_path / "runs")
    sentences = [str(each.message) for each in said]
    assert sentences == [f"{path}: not read: field id; prompt, answer or template says which fields are"]
    named = data(path, template="{id} {prompt}")
    turns = [{"role": "user", "content": "a", "name": "b"}, {"role": "assistant", "content": "c"}]
    (tmp_path / "chat.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 2)
    for task in (named, data(tmp_path / "chat.jsonl"), tiny().build_task()):
        assert say_unread(task) == ""
    path.write_text(json.dumps(dict.fromkeys(("prompt", "answer", *"abcdefgh"), "x")))
    assert "field e, 3 more fields; " in say_unread(data(path))


def test_a_prompt_may_be_json_or_empty(tmp_path: Path) -> None:
    prompts = ['{"x": 1}', '{"x": ', "{}", "", '{"prompt": "x"}']
    path = write_jsonl(tmp_path / "a.jsonl", [(prompt, "b") for prompt in prompts])
    task, bare = data(path), data(write_jsonl(tmp_path / "b.jsonl", [("a", "b")]), boundary="none")
    for prompt in prompts:
        tokens = task.coding.encode(prompt, "b")
        assert task.read_line(task.write_line(*tokens)) == tokens
        assert task.read_line(prompt)[0] == task.coding.encode("x" if "prompt" in prompt else prompt, "b")[0]
    with pytest.raises(RequestError, match="the prompt holds nothing"):
        bare.read_line("")


def test_a_boundary_tells_a_short_prompt_from_the_start_of_a_longer_one(tmp_path: Path) -> None:
    """Words keep their combining marks."""
    path = write_jsonl(tmp_path / "a.jsonl", [("ab", "cd"), ("abc", "d")])
    task, bare = data(path), data(path, boundary="none")
    assert task.read_line("ab")[0][-1] == task.vocab.token("<response>")
    assert bare.vocab.decode(bare.read_line("ab")[0]) == ["a", "b"]
    path = write_jsonl(tmp_path / "b.jsonl", [("अनुवाद 1", "नमस्ते हिन्दी"), ("e\u0301te\u0301", "क्\u200dष")])
    symbols = data(path, tokenizer="words").vocab.symbols
    assert set(symbols[:-3]) == {"अनुवाद", "1", "नमस्ते", "हिन्दी", "e\u0301te\u0301", "क्\u200dष"}


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
    task = data(ours, test=write_jsonl(tmp_path / "test.jsonl", SUMS[290:310]))
    rows = {split: task.rows(split) for split in ("train", "test")}
    assert {split: len(each) for split, each in rows.items()} == {"train": 290, "test": 20}
    assert json.loads(task.write_line(*rows["test"][19]))["prompt"] == SUMS[309][0]
    assert task.held_out(rows["test"].batch(range(20))).all()
    assert not task.held_out(rows["train"].batch(range(290))).any()
    overlap = inspect(task.stored.request).overlap
    assert (overlap.prompts, overlap.rows, overlap.examples[0].prompt) == (10, 10, SUMS[290][0])


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
        with pytest.raises(RequestError, match=rf"{library}, which is not installed; pip install 'foresee-lm\[data\]'"):
            data(path)


@pytest.mark.usefixtures("_no_network")
def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RequestError, match="scripts are no longer supported"):
        data(tmp_path / "set")
    assert not (tmp_path / "ran").exists()


# The cache


def test_a_file_is_read_anew_where_it_changed_or_its_cache_was_cut_off(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", SUMS[:10])
    expected = rows_of(data(path))
    made = sorted(cache_folder().glob("rows/*/*.*[0-9]"))
    assert rows_of(data(path)) == expected == SUMS[:10]
    assert sorted(cache_folder().glob("rows/*/*.*[0-9]")) == made
    for array in made:
        array.write_bytes(array.read_bytes()[:-1])
        assert rows_of(data(path)) == expected
    for meta in sorted(cache_folder().rglob("*.json")):
        meta.write_text("{}")
        assert rows_of(data(path)) == expected
    write_jsonl(path, SUMS[:11])
    assert len(data(path).stored) == 11
    assert len(list(cache_folder().glob("rows/*/*.*[0-9]"))) == 2 * len(made)


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


def test_conversations_of_several_turns_are_inspected(tmp_path: Path) -> None:
    """All turns of one stand in one place of the file."""
    turns = [{"role": role, "content": text} for role, text in
             (("user", "a b"), ("assistant", "c"), ("user", "d"), ("assistant", "e"))]  # fmt: skip
    path = tmp_path / "chats.jsonl"
    path.write_text((json.dumps({"messages": turns}) + "\n") * 2)
    found: DataSummary = inspect(data(path, turns="all").stored.request)
    assert (found.duplicates.prompts, found.duplicates.rows) == (2, 2)
    assert {example.responses for example in found.duplicates.examples} == {("c",), ("e",)}


# Runs


@pytest.mark.parametrize(
    ("rows", "source", "why"),
    [
        (9, "fresh", "are those of its file"),
        (1, "fixed:9", "no row bel"),
        (9, "file:tests/own_data.jsonl", "file of its own"),
    ],
)
def test_what_a_run_cannot_be_trained_on(rows: int, source: str, why: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", SUMS[:rows])
    with pytest.raises(RequestError, match=why):
        train(tiny(task=f"data:{path}", data=source), tmp_path)


def test_rows_are_written_and_read_back_as_json_lines(file: Path, tmp_path: Path) -> None:
    task, path = data(file), tmp_path / "a.jsonl"
    batch: Batch = task.rows("train").batch(range(30))
    write_examples(task, batch, path, "jsonl")
    assert json.loads(path.read_text().splitlines()[0]).keys() == {"prompt", "response"}
    assert list(read_examples(path, task).pairs()) == list(batch.pairs())
