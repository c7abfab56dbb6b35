"""What is read from files as people have them, and what is said of a file or a row that cannot be used."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import runpy
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import numpy
import pyarrow
import pytest
from data_files import data, rows_of, write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from program import Program
from pyarrow import ipc, parquet
from refusals import refused

from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.files import cache_folder
from foresee.core.spec import parse, resolve
from foresee.datasets.inspection import inspect
from foresee.tasks import tasks
from foresee.tasks.data import Data
from foresee.training.examples import warn_of_rows

CHAT = [("system", "be kind"), ("user", "one?"), ("assistant", "1"), ("user", "two?"), ("assistant", "2")]
FIRST, SECOND = ("system: be kind\nuser: one?", "1"), ("system: be kind\nuser: one?\nassistant: 1\nuser: two?", "2")
GOOD = b'{"prompt": "a", "response": "b"}\n'
TRICKY = [
    ("plain", "1"), ('a "quoted", text', "x\ty"), ("two\nlines", "and\r\nmore"), ("é 猫 🙂", "ß"),
    (" spaces ", "kept "),
]  # fmt: skip


def packed(**columns: Any) -> bytes:
    """A Parquet file of these columns, three rows a group."""
    written = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), written, row_group_size=3)
    return written.getvalue()


def arrow(**columns: Any) -> bytes:
    written = io.BytesIO()
    table = pyarrow.table(columns)
    with ipc.new_file(written, table.schema) as opened:
        opened.write_table(table, max_chunksize=2)
    return written.getvalue()


def table(rows: list[tuple[str, str]]) -> dict[str, list[Any]]:
    """Columns of rows, and one that is not asked for."""
    return {"prompt": [row[0] for row in rows], "id": list(range(len(rows))), "response": [row[1] for row in rows]}


def lines(rows: list[tuple[str, str]]) -> bytes:
    return "".join(json.dumps(dict(zip(("prompt", "response"), row, strict=True))) + "\n" for row in rows).encode()


def comma_separated(rows: list[tuple[str, str]]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows([("prompt", "response"), *rows])
    return written.getvalue().encode()


def chats(field: str, role: str, content: str) -> bytes:
    asked = [CHAT, CHAT[1:3], [*CHAT, ("user", "unanswered")]]
    return "".join(json.dumps({field: [{role: a, content: b} for a, b in chat]}) + "\n" for chat in asked).encode()


def turns(*said: Any) -> bytes:
    return json.dumps([{"messages": [{"role": role, "content": content} for role, content in said]}]).encode()


SAID = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]]
PARTS = turns(("user", [{"type": "text", "text": "a"}]), ("assistant", "b"))
TABS = [("say 3", '"hi 3'), ("say 4", 'ho 4"'), ("say 5", '"whole"'), ("é", "a , b")]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".GZ": gzip.compress, ".bz2": bz2.compress, ".Bz2": bz2.compress,
    ".zst": lambda raw: pyarrow.compress(raw, codec="zstd", asbytes=True),
}  # fmt: skip
WITHIN = pyarrow.struct([("t", pyarrow.list_(pyarrow.float32()))])
NUMBERS = [0.1, 2.5, 1e-5, 7]

READ: dict[str, tuple[str, bytes, dict[str, Any], list[tuple[str, str]]]] = {
    "lines": ("a.jsonl", lines(TRICKY), {}, TRICKY),
    "json": ("a.json", lines(TRICKY), {}, TRICKY),
    "csv": ("a.csv", comma_separated(TRICKY), {}, TRICKY),
    "parquet": ("a.parquet", packed(**table(TRICKY)), {}, TRICKY),
    "arrow": ("a.arrow", arrow(**table(TRICKY)), {}, TRICKY),
    **{f"packed{end}": (f"a.JSONL{end}", pack(lines(TRICKY)), {}, TRICKY) for end, pack in PACKERS.items()},
    "no line end": ("a.jsonl", GOOD + b'{"prompt": "c", "response": "d"}', {}, [("a", "b"), ("c", "d")]),
    "mark and CRLF": ("a.jsonl", b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") * 2, {}, [("a", "b")] * 2),
    "blank lines": ("a.jsonl", b"\n" + GOOD + b"\n   \n" + GOOD + b"\n\n", {}, [("a", "b")] * 2),
    "other fields": ("a.jsonl", b'{"response": "b", "prompt": "x", "prompt": "a", "x": NaN}', {}, [("a", "b")]),
    "numbers": (
        "a.jsonl", b'{"prompt": 1.10, "response": 123456789012345678901234567890}', {},
        [("1.10", "123456789012345678901234567890")],
    ),
    **{
        f"numbers of {kind}": (
            "a.parquet", packed(prompt=list("abcd"), response=pyarrow.array(numpy.array(NUMBERS, kind))), {},
            list(zip("abcd", ("0.1", "2.5", "1e-05", "7.0"), strict=True)),
        )
        for kind in ("float16", "float32", "float64")
    },
    "tabs": ("a.tsv", "\n".join(map("\t".join, [("prompt", "response"), *TABS])).encode(), {}, TABS),
    "quoted tabs": ("a.tsv", b'"prompt"\t"response"\n"a ""b"""\t"c\td"\n', {}, [('a "b"', "c\td")]),
    "list": ("a.json", b'[\n {\n "prompt": "a",\n "response": "b"},\n' + GOOD + b"]\n", {}, [("a", "b")] * 2),
    "over lines": ("a.json", b'{\n "prompt": "a",\n "response": "b"\n}\n' * 2, {}, [("a", "b")] * 2),
    "nested": ("a.jsonl", b'{"q": {"t": ["x", "y"]}, "answer": 1.50}', {"prompt": "q.t.1"}, [("y", "1.50")]),
    "nested columns": ("a.parquet", packed(q=[{"t": ["x", "y"]}], answer=["z"]), {"prompt": "q.t.0"}, [("x", "z")]),
    "numbers within columns": (
        "a.parquet", packed(q=pyarrow.array([{"t": [0.1, None]}], WITHIN), answer=["z"]), {"prompt": "q.t.0"},
        [("0.1", "z")],
    ),
    "semicolons": ("a.csv", b'prompt;response\n"a;b";c,d\n', {}, [("a;b", "c,d")]),
    "tabs between commas' fields": ("a.csv", b"prompt\tresponse\na,b\tc\n", {}, [("a,b", "c")]),
    "template": (
        "a.json", b'[{"do": "add", "in": 2, "out": 3}]', {"template": r"{do}\n{in}", "response": "out"},
        [("add\n2", "3")],
    ),
    "text form": ("a.txt", b"1,2|1,3/1,2=1,2\n\n1,3/1,3=1,3", {}, [("1,2|1,3/1,2=", "1,2"), ("1,3/1,3=", "1,3")]),
    "messages": ("a.jsonl", chats("messages", "role", "content"), {}, [SECOND, ("one?", "1"), SECOND]),
    "conversations": (
        "a.jsonl", chats("conversations", "from", "value"), {"turns": "all"},
        [FIRST, SECOND, ("one?", "1"), FIRST, SECOND],
    ),
    "messages in columns": ("a.parquet", packed(messages=SAID), {}, [("a", "b")]),
    "messages in parts": ("a.json", PARTS, {}, [("a", "b")]),
    "empty prompts": ("a.jsonl", lines([("", "a"), (" ", "b")]), {}, [("", "a"), (" ", "b")]),
    "bad rows left out": (
        "a.parquet", packed(prompt=["a", None, "c"], response=[1, 2, None]), {"skip_bad": True}, [("a", "1")],
    ),
    "long field": ("a.csv", comma_separated([("x" * 200_000, "b")]), {}, [("x" * 200_000, "b")]),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_files_as_people_have_them(case: str, tmp_path: Path) -> None:
    name, raw, options, rows = READ[case]
    (tmp_path / name).write_bytes(raw)
    limit = csv.field_size_limit()
    task = data(tmp_path / name, tokenizer="bytes", **options)
    assert rows_of(task) == rows
    assert csv.field_size_limit() == limit
    if name.startswith("a.JSONL"):
        (tmp_path / name).write_bytes(raw[:-9])
        with pytest.raises(RequestError, match="the compressed file is damaged"):
            data(tmp_path / name)


LIMITS = {"max_prompt": 8, "max_answer": 5}
BAD_LINES: dict[str, tuple[bytes, str, str]] = {
    "no JSON": (b"nope", "not JSON", r"column 1: not JSON: Expecting value"),
    "no value": (b'{"prompt": "a", "response"}', "not JSON", r"column 27: not JSON"),
    "list": (b"[1, 2]", "not an object", r"a JSON list"),
    "number": (b"7", "not an object", r"not a JSON object"),
    "no field": (b'{"prompt": "a"}', "missing field", r"there is no field 'response'; the fields are 'prompt'"),
    "null": (b'{"prompt": "a", "response": null}', "missing field", r"field 'response' is null"),
    "empty": (b'{"prompt": "a", "response": ""}', "empty field", r"field 'response' is empty"),
    "blank": (b'{"prompt": "a", "response": " "}', "empty field", r"field 'response' is blank"),
    "list within": (b'{"prompt": ["a"], "response": "b"}', "nested value", r"field 'prompt' holds a list"),
    "object within": (b'{"prompt": {"a": 1}, "response": "b"}', "nested value", r"field 'prompt' holds an object"),
    "true": (b'{"prompt": true, "response": "b"}', "wrong type", r"field 'prompt' is true"),
    "NaN": (b'{"prompt": NaN, "response": "b"}', "wrong type", r"field 'prompt' is nan"),
    "bytes": (b'{"prompt": "\xff", "response": "b"}', "undecodable bytes", r"column 13: the byte 0xFF is not UTF-8"),
    "half": (b'{"prompt": "\\ud800", "response": "b"}', "undecodable bytes", r"field 'prompt' holds half a surrogate"),
    "deep": (b"[" * 100_000, "not JSON", r"(nested too deeply|column \d+: not JSON)"),
    "long prompt": (
        b'{"prompt": "aaaaaaaaa", "response": "b"}', "too long", r"the prompt has 9 tokens, more than max_prompt=8",
    ),
    "long answer": (
        b'{"prompt": "a", "response": "bbbbbb"}', "too long", r"the answer has 6 tokens, more than max_answer=5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named_or_left_out_and_counted(case: str, tmp_path: Path) -> None:
    line, kind, message = BAD_LINES[case]
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    with pytest.raises(RequestError, match=rf"a.jsonl, line 2: {message}"):
        data(path, **LIMITS)
    task = data(path, skip_bad=True, **LIMITS)
    assert rows_of(task) == [("a", "b"), ("a", "b")]
    with pytest.raises(RequestError, match=rf"a.jsonl, line 2: {message}"):  # from the cache, too
        data(path, **LIMITS)
    summary = inspect(task.stored.request)
    assert summary.bad_rows == {kind: 1}
    assert "line 2" in summary.bad_examples[0]
    assert (summary.rows, summary.duplicates.rows) == (2, 1)


NO_TEXT = pyarrow.array([b"a", b"\xff"]).cast(pyarrow.binary()).view(pyarrow.string())
REFUSED: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "three fields": ("a.csv", b"prompt,response\na,b,c\n", {}, r"line 2: the row has 3 fields, but the header has 2"),
    "empty field": ("a.csv", b'prompt,response\na,b\n"x\ny",\n', {}, r"line 3: field 'response' is empty"),
    "no UTF-8": ("a.csv", b"prompt,response\na,\xff\n", {}, r"line 2: field 'response' holds the byte 0xFF"),
    "open quote": ("a.csv", b'prompt,response\na,"b', {}, r"line 2: not CSV: unexpected end of data"),
    "after a quote": ("a.csv", b'prompt,response\na,"b"c\n', {}, r"line 2: not CSV"),
    "no such field": (
        "a.csv", b"question,response\na,b\n", {}, r"no field 'prompt'; its fields are 'question', 'response'",
    ),
    "field twice": ("a.csv", b"prompt,response,prompt\na,b,c\n", {}, r"the header has more than one field 'prompt'"),
    "no rows": ("a.csv", b"prompt,response\n", {}, r"it holds no rows"),
    "nothing": ("a.csv", b"", {}, r"it holds no rows"),
    "quotes between tabs": (
        "a.tsv", b'prompt\tresponse\na\tb\na\t"b ""c"""\n', {}, r"line 3: a field is written in CSV's quotes",
    ),
    "null in a column": (
        "a.parquet", packed(prompt=["a", None], response=[1, 2]), {}, r"a.parquet, row 2: field 'prompt' is null",
    ),
    "lists in a column": ("a.parquet", packed(prompt=[["a"]], response=["b"]), {}, "column 'prompt' holds list"),
    "bytes in a column": (
        "a.parquet", packed(prompt=NO_TEXT, response=["b", "b"]), {}, "row 2: field 'prompt' holds the byte 0xFF",
    ),
    "a date within a column": (
        "a.parquet", packed(q=[{"d": date(2020, 1, 2)}], response=["b"]), {"prompt": "q.d"},
        "row 1: field 'q.d' is 2020-01-02; it must hold text or a number",
    ),
    "a date in a template": (
        "a.parquet", packed(d=[date(2020, 1, 2)], response=["b"]), {"template": "on {d}"},
        "row 1: field 'd' is 2020-01-02; it must hold text or a number",
    ),
    "the answer in the prompt": ("a.jsonl", GOOD, {"template": "{prompt} {response}"}, "name the same field"),
    "no Parquet": ("a.parquet", b"PAR1 and nothing more", {}, r"a.parquet: cannot be read"),
    "a value": ("a.json", b"[\n" + GOOD + b',{"prompt" 1}]', {}, r"line 3: not JSON: .*nothing after it is read"),
    "an open list": ("a.json", b"[" + GOOD, {}, "the list does not end"),
    "no = in text": ("a.txt", b"1,2/1,2=1,2\nno sign", {}, "line 2: there is no '=' where the prompt ends"),
    "nobody answers": ("a.json", turns(("user", "a")), {}, r"line 1: no turn of .* is the assistant's"),
    "nobody speaks": ("a.json", b'[{"messages": [{"role": "user"}]}]', {}, "lacks who speaks"),
    "nested and not there": (
        "a.jsonl", b'{"q": {"t": ["x"]}, "answer": 1}', {"prompt": "q.t.2"},
        r"no field 'q.t.2'; the fields are 'q', 'answer'",
    ),
    "every row": (
        "a.json", b'[{"prompt": "a", "output": "b"}]', {"skip_bad": True},
        r"every row is bad; the first, line 1: there is no field 'answer'; .*; name the two fields, as in",
    ),
    "empty prompts": ("a.jsonl", lines([("", "a")]), {"boundary": "none"}, "the prompt holds nothing"),
    "unknown ending": ("a.xyz", b"x", {}, "the format is told by the end of the name"),
    "a pointer": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", {}, "is a Git LFS pointer"),
    "cut off": ("a.jsonl.gz", gzip.compress(GOOD * 50)[:-12], {}, "the compressed file is damaged"),
    "UTF-16": ("a.jsonl", '{"prompt": "a"}'.encode("utf-16"), {}, "UTF-16"),
    "one field": ("a.jsonl", GOOD, {"prompt": "response"}, "name the same field"),
    "tokenizer": ("a.jsonl", GOOD, {"tokenizer": "letters"}, "tokenizer=letters must be one of"),
    **{
        template: ("a.jsonl", GOOD, {"template": template, "answer": "response"},
                   f"template .* {why}; write fields in braces")
        for template, why in (("hello", "names no field"), (r"{prompt}\n{x", "has a brace that names no field"))
    },
    "limit": ("a.jsonl", GOOD, {"max_prompt": 0}, "max_prompt=0 must be at least 1"),
    **{
        f"lengths {other}": (
            "a.jsonl", lines([("a", "bcd"), ("b", "cde"), ("c", other)]), {"ending": "none"},
            r"ending=none needs responses of one length.*a\.jsonl, line \d",
        )
        for other in ("bc", "bcde")
    },
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    name, raw, options, message = REFUSED[case]
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(RequestError, match=message) as refusal:
        data(tmp_path / name, **options)
    assert "\n" not in str(refusal.value)
    assert not list(cache_folder().rglob("*.part"))


def misplaced(offset: int, within: bool) -> pyarrow.Array:
    """Two texts, or two lists of one text each, of which the first ends at ``offset``."""
    places = pyarrow.py_buffer(numpy.array([0, offset, 2], numpy.int32))
    texts = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, places, pyarrow.py_buffer(b"ab")])
    return pyarrow.ListArray.from_arrays(pyarrow.array([0, 1, 2], pyarrow.int32()), texts) if within else texts


@pytest.mark.parametrize("offset", [-5, 1 << 30])
@pytest.mark.parametrize(("field", "within"), [("q", False), ("q.0", True)])
def test_a_place_outside_of_an_arrow_file_is_not_followed(
    offset: int, field: str, within: bool, tmp_path: Path
) -> None:
    (tmp_path / "a.arrow").write_bytes(arrow(q=misplaced(offset, within), response=["c", "d"]))
    with refused("a.arrow: cannot be read: "):
        data(tmp_path / "a.arrow", prompt=field)


@given(lines=st.lists(st.binary(max_size=40), max_size=8), kind=st.sampled_from([".jsonl", ".csv", ".tsv"]))
def test_whatever_is_in_a_file_it_is_read_or_refused(
    lines: list[bytes], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"a{kind}"
    good = GOOD.strip() if kind == ".jsonl" else b"a\tb" if kind == ".tsv" else b"a,b"
    header = [] if kind == ".jsonl" else [b"prompt\tresponse" if kind == ".tsv" else b"prompt,response"]
    path.write_bytes(b"\n".join([*header, good, *lines]))
    task = data(path, skip_bad=True, tokenizer="bytes")
    assert rows_of(task)[0] == ("a", "b")
    if task.stored.bad_counts:
        with pytest.raises(RequestError, match=rf"a\{kind}, line "):
            data(path, tokenizer="bytes")
    else:
        assert len(data(path, tokenizer="bytes").stored) == len(task.stored)


# Folders, and several files


def test_several_files_patterns_and_paths_with_commas(tmp_path: Path) -> None:
    for name in ("a", "b,c", "d+e"):
        write_jsonl(tmp_path / f"{name}.jsonl", [(name, "x")])
    for path, found in (("*.jsonl", ["a", "b,c", "d+e"]), ("d+e.jsonl", ["d+e"])):
        assert [prompt for prompt, _ in rows_of(Data(path=str(tmp_path / path)))] == found
    both = f"{tmp_path / 'a.jsonl'}+{tmp_path / 'b,c.jsonl'}"
    assert [prompt for prompt, _ in rows_of(Data(path=both))] == ["a", "b,c"]
    for missing in ("*.csv", "none.jsonl"):
        with pytest.raises(RequestError, match="no such file or folder"):
            Data(path=str(tmp_path / missing))
    for joined in (f"{tmp_path / 'a.jsonl'}+", f"+{tmp_path / 'a.jsonl'}"):
        with pytest.raises(RequestError, match="no name on one side of a "):  # not the folder one stands in
            Data(path=joined)


def test_shards_in_hub_layout_and_what_is_left_out_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    shards = {"train-00000-of-00002": "ab", "train-00001-of-00002": "cd"}
    shards |= {"validation-00000-of-00001": "ef", "test-00000-of-00001": "gh"}
    for name, letters in shards.items():
        (folder / f"{name}.parquet").write_bytes(packed(prompt=list(letters), response=["x", "y"], id=[1, 2]))
    (tmp_path / "set" / "README.md").write_text("# Without metadata\n")
    task = data(tmp_path / "set", tokenizer="bytes")
    assert [prompt for prompt, _ in rows_of(task)] == list("abcdgh")
    assert capfd.readouterr().err == ""
    assert len(task.rows("test")) == 2
    (tmp_path / "set" / "notes.txt").write_text("a=b\n")  # another format, which datasets would not mix with these
    assert inspect(task.stored.request).left_out == ("split validation", "file notes.txt", "field id")
    with pytest.warns(ForeseeWarning, match="set: not read: split validation, file notes.txt, field id; prompt, "):
        warn_of_rows(task, task.rows("test").batch([0]))
    (folder / "test-00000-of-00001.parquet").unlink()
    assert [prompt for prompt, _ in rows_of(data(tmp_path / "set", tokenizer="bytes"))] == list("abcdef")


def test_a_saved_folder_brings_its_test_split(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"q": list("abcde"), "a": list("fghij")})
    rows.save_to_disk(tmp_path / "alone", num_shards=2)
    assert [prompt for prompt, _ in rows_of(data(tmp_path / "alone", prompt="q", response="a"))] == list("abcde")
    for names in (("train", "test"), ("one", "two")):
        parts = dict(zip(names, (rows.select(range(4)), rows.select(range(4, 5))), strict=True))
        datasets.DatasetDict(parts).save_to_disk(tmp_path / names[0])
    task = data(tmp_path / "train", prompt="q", response="a")
    assert (len(task.rows("train")), len(task.rows("test"))) == (4, 1)
    with pytest.raises(RequestError, match="holds the splits one, two and none is named train"):
        data(tmp_path / "one", prompt="q", response="a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="neither as a folder that datasets' save_to_disk wrote nor"):
        data(tmp_path / "empty")


def test_a_template_may_hold_commas(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"instruction": "add", "input": str(n), "output": str(n + 1)} for n in range(3)]))
    resolved = resolve(tasks, rf"data:{path},response=output,template={{instruction}}\, {{input}}")
    task = resolved.build()
    assert isinstance(task, Data)
    assert rows_of(task)[0] == ("add, 0", "1")
    assert resolve(tasks, resolved.text).options == resolved.options
    assert parse(r"a:x=1\,2,y=3")[1] == {"x": "1,2", "y": "3"}
    found = program.json("inspect", str(path), "--response", "output", "--template", r"{instruction}, {input}")
    assert (found["rows"], found["left_out"]) == (3, [])


def test_the_example_on_a_corpus_makes_a_row_of_each_turn_that_is_answered(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "examples" / "data" / "chatterbot.py"
    (tmp_path / "a.yml").write_text(
        f"conversations:\n- [hi, hello, 2]\n- [hi, hello]\n- [{'x' * 49}, y]\n- ['', y]\n", encoding="utf-8"
    )
    made = list(runpy.run_path(str(script))["rows"](tmp_path))
    assert made == [{"prompt": "hi", "answer": "hello"}, {"prompt": "hello", "answer": "2"}]
