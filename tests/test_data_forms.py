"""Data as people have them: conversations, nested fields, templates, lists, several files, splits, compression."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from data_files import data, write_jsonl
from program import Program
from pyarrow import parquet

from foresee.core.errors import RequestError
from foresee.core.spec import parse, resolve
from foresee.datasets.inspection import inspect
from foresee.datasets.sources import Row, read_rows
from foresee.tasks import tasks
from foresee.tasks.data import Data

CHAT = [("system", "be kind"), ("user", "one?"), ("assistant", "1"), ("user", "two?"), ("assistant", "2")]
LONG = "system: be kind\nuser: one?"


def texts(task: Data) -> list[tuple[str, str]]:
    """Prompts and responses of a task, as they are read and as they are kept."""
    stored = task.stored
    kept = [task.coding.decode(*stored.pair(row)) for row in range(len(stored))]
    assert kept == [row[2:] for row in read_rows(stored.files, task.fields) if isinstance(row, Row)]
    return kept


@pytest.mark.parametrize(
    ("field", "role", "content"), [("messages", "role", "content"), ("conversations", "from", "value")]
)
def test_the_last_turn_of_a_conversation_is_the_answer_or_each_is(
    field: str, role: str, content: str, tmp_path: Path
) -> None:
    path = tmp_path / "chat.jsonl"
    chats = [CHAT, CHAT[1:3], [*CHAT, ("user", "unanswered")]]
    path.write_text("".join(json.dumps({field: [{role: a, content: b} for a, b in chat]}) + "\n" for chat in chats))
    whole = (f"{LONG}\nassistant: 1\nuser: two?", "2")
    assert texts(data(path)) == [whole, ("one?", "1"), whole]
    assert texts(data(path, turns="all")) == [(LONG, "1"), whole, ("one?", "1"), (LONG, "1"), whole]
    path.write_text(json.dumps({field: [{role: "user", content: "a"}]}))
    with pytest.raises(RequestError, match=r"line 1: no turn of .* is the assistant's"):
        data(path)
    path.write_text(json.dumps({field: [{role: "user"}]}))
    with pytest.raises(RequestError, match="lacks who speaks"):
        data(path)


def test_conversations_in_parquet_and_with_parts(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    parquet.write_table(pyarrow.table({"messages": [turns], "id": [1]}), tmp_path / "a.parquet")
    assert texts(data(tmp_path / "a.parquet")) == [("a", "b")]
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}]
    (tmp_path / "a.json").write_text(json.dumps([{"messages": parts}]))
    assert texts(data(tmp_path / "a.json")) == [("a", "b")]


def test_nested_fields_and_the_name_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"q": {"text": ["x", "y"]}, "answer": 1.50}\n')
    assert texts(data(path, prompt="q.text.1")) == [("y", "1.50")]
    with pytest.raises(RequestError, match=r"there is no field 'q.text.2'; the fields are 'q', 'answer'"):
        data(path, prompt="q.text.2")
    parquet.write_table(pyarrow.table({"q": [{"text": ["x", "y"]}], "answer": ["z"]}), tmp_path / "a.parquet")
    assert texts(data(tmp_path / "a.parquet", prompt="q.text.0")) == [("x", "z")]


def test_a_template_joins_fields_and_may_hold_commas(tmp_path: Path, program: Program) -> None:
    rows = [{"instruction": "add", "input": str(n), "output": str(n + 1)} for n in range(3)]
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(rows, indent=4))
    assert texts(data(path, template=r"{instruction}\n{input}", response="output"))[2] == ("add\n2", "3")
    spec = rf"data:{path},response=output,template={{instruction}}\, {{input}}"
    resolved = resolve(tasks, spec)
    task = resolved.build()
    assert isinstance(task, Data)
    assert texts(task)[0] == ("add, 0", "1")
    assert resolve(tasks, resolved.text).options == resolved.options
    assert parse(r"a:x=1\,2,y=3")[1] == {"x": "1,2", "y": "3"}
    found = program.json("inspect", f"{path},response=output", "--template", r"{instruction}, {input}")
    assert (found["rows"], found["left_out"]) == (3, [])


def test_a_list_over_many_lines_is_read_and_a_damaged_one_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n  {\n    "prompt": "a",\n    "response": "b"\n  },\n  {"prompt": "c", "response": "d"}\n]\n')
    assert texts(data(path)) == [("a", "b"), ("c", "d")]
    path.write_text('{\n "prompt": "a",\n "response": "b"\n}\n{\n "prompt": "c",\n "response": "d"\n}\n')
    assert texts(data(path)) == [("a", "b"), ("c", "d")]
    path.write_text('[\n{"prompt": "a", "response": "b"},\n{"prompt": "c" "response": "d"}\n]')
    with pytest.raises(RequestError, match=r"a.json, line 3: not JSON: .*nothing after it is read"):
        data(path)
    path.write_text('[{"prompt": "a", "response": "b"}')
    with pytest.raises(RequestError, match="the list does not end"):
        data(path)


def test_the_text_form_of_examples(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "star.txt"
    assert program("generate", "path-star:degree=2,length=3,nodes=10", "-n", "20", "--out", str(path))[0] == 0
    lines = path.read_text().splitlines()
    assert ["".join(pair) for pair in texts(data(path))] == lines
    path.write_text("\n".join([*lines, "no sign"]))
    with pytest.raises(RequestError, match="line 21: there is no '=' where the prompt ends"):
        data(path)
    assert program.json("inspect", str(path))["bad_rows"] == {"no =": 1}


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".GZ": gzip.compress, ".bz2": bz2.compress, ".Bz2": bz2.compress,
    ".zst": lambda raw: pyarrow.compress(raw, codec="zstd", asbytes=True),
}  # fmt: skip


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files_are_read_and_cut_ones_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.JSONL{ending}"
    packed = PACKERS[ending](b'{"prompt": "a", "response": "b"}\n' * 300)
    path.write_bytes(packed)
    assert len(data(path).stored) == 300
    path.write_bytes(packed[:-9])
    with pytest.raises(RequestError, match="the compressed file is damaged"):
        data(path)


def test_several_files_patterns_and_paths_with_commas(tmp_path: Path) -> None:
    for name in ("a", "b,c", "d+e"):
        write_jsonl(tmp_path / f"{name}.jsonl", [(name, "x")])
    options: dict[str, Any] = {"path": str(tmp_path / "*.jsonl")}
    assert [prompt for prompt, _ in texts(Data(**options))] == ["a", "b,c", "d+e"]
    both = f"{tmp_path / 'd+e.jsonl'}"
    assert [prompt for prompt, _ in texts(Data(path=both))] == ["d+e"]
    both = f"{tmp_path / 'a.jsonl'}+{tmp_path / 'b,c.jsonl'}"
    assert [prompt for prompt, _ in texts(Data(path=both))] == ["a", "b,c"]
    with pytest.raises(RequestError, match="no such file"):
        Data(path=str(tmp_path / "*.csv"))


def test_shards_in_hub_layout_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    shards = {"train-00000-of-00002": "ab", "train-00001-of-00002": "cd"}
    shards |= {"validation-00000-of-00001": "ef", "test-00000-of-00001": "gh"}
    for name, letters in shards.items():
        table = pyarrow.table({"prompt": list(letters), "response": ["x", "y"], "id": [1, 2]})
        parquet.write_table(table, folder / f"{name}.parquet")
    task = data(tmp_path / "set", tokenizer="bytes")
    assert [prompt for prompt, _ in texts(task)] == list("abcdgh")
    assert len(task.rows("test")) == 2
    assert inspect(task.stored.request).left_out == ("split validation", "field id")
    (folder / "test-00000-of-00001.parquet").unlink()
    assert [prompt for prompt, _ in texts(data(tmp_path / "set", tokenizer="bytes"))] == list("abcdef")


def test_an_empty_prompt_is_one_where_a_token_stands_for_it(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [("", "a"), (" ", "b")])
    assert texts(data(path)) == [("", "a"), (" ", "b")]
    with pytest.raises(RequestError, match="the prompt holds nothing that the tokenizer keeps"):
        data(path, boundary="none")
