"""Splits, training data by step, files of examples."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from typing import Literal
from unittest.mock import Mock

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import ForeseeError, RequestError
from foresee.core.fingerprints import one_in_eight
from foresee.tasks.example_files import read_examples, write_examples
from foresee.tasks.path_star import PathStar
from foresee.training import data
from foresee.training.data import WINDOW, FixedData, FreshData, draw, group_lengths, sort_by_length
from foresee.training.values import canonical_data

G25 = PathStar(degree=2, length=5, nodes=50, goals="one")
PAIRED = PathStar(degree=3, length=3, nodes=30, goals="all")
TEXT = "path-star:degree=2,length=5,nodes=50,goals=one"
PAIRED_TEXT = "path-star:degree=3,length=3,nodes=30,goals=all"
MIXED = PathStar(degree=2, length=6, nodes=30, sizes="mixed", goals="one")
MIXED_PAIRED = PathStar(degree=2, length=4, nodes=30, sizes="mixed", generalised="path", goals="all")
MIXED_TEXT = "mixed"
SAMPLE_LINE = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=32,34,6,16,12"
OTHER_LINE = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,28=32,3,19,47,28"


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.tokens, b.tokens) and all(torch.equal(a.facts[name], b.facts[name]) for name in a.facts)


# Splits


def test_a_draw_is_a_function_of_its_names() -> None:
    batch = draw(G25, TEXT, "test", 3000, 0)
    assert len(batch) == 3000
    assert same(batch, draw(G25, TEXT, "test", 3000, 0))
    assert same(batch.rows(slice(0, 700)), draw(G25, TEXT, "test", 700, 0))
    assert not torch.equal(batch.tokens, draw(G25, "another name", "test", 3000, 0).tokens)


def test_splits_are_disjoint_where_problems_run_out() -> None:
    # 5 * 4 * 3 = 60 graphs: both splits repeat theirs, and no other seed brings one across.
    task = PathStar(degree=1, length=3, nodes=5, goals="one")
    train = [set(task.identity(draw(task, "small", "train", 2000, seed)).tolist()) for seed in (0, 1)]
    test = [set(task.identity(draw(task, "small", "test", 500, seed)).tolist()) for seed in (0, 1)]
    assert train[0] == train[1]
    assert test[0] == test[1]
    assert not train[0] & test[0]
    assert len(train[0] | test[0]) == 60


def test_one_problem_in_eight_is_a_test_problem_and_an_empty_split_is_refused() -> None:
    share = one_in_eight(G25.identity(G25.sample(40_000, seeds.stream("share")))).mean()
    assert abs(share - 1 / 8) < 6 * (1 / 8 * 7 / 8 / 40_000) ** 0.5
    # Fingerprints that are anything but uniform are split as evenly.
    assert abs(one_in_eight(numpy.arange(40_000, dtype=numpy.uint64)).mean() - 1 / 8) < 0.01
    # There are three graphs, one for each centre, and all of them happen to be training problems.
    task = PathStar(degree=2, length=2, nodes=3, goals="one")
    assert not one_in_eight(task.identity(task.sample(300, seeds.stream("all three")))).any()
    with refused("belongs to the test split; the task has too few problems"):
        draw(task, "tiny", "test", 1, 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_groups_stay_whole_in_a_split(split: Literal["train", "test"]) -> None:
    batch = draw(PAIRED, PAIRED_TEXT, split, 3000, 0)
    groups = PAIRED.identity(batch).reshape(-1, 3)
    assert (groups == groups[:, :1]).all()
    assert (batch.answers[:, -1].view(-1, 3).sort().values.diff() != 0).all()


# Batches by step


def numbered(rows: int, group: int = 1, ragged: bool = False) -> Batch:
    """Rows that say which they are; ragged ones have lengths that groups have in common in their prompts alone."""
    rng = seeds.stream("test batches", rows, group)
    prompt = torch.from_numpy(numpy.repeat(rng.integers(1, 5, rows // group), group)) if ragged else 1
    answer = torch.from_numpy(rng.integers(1, 9, rows)) if ragged else 2
    tokens = torch.arange(rows)[:, None].repeat(1, 14 if ragged else 3)
    return Batch.of(tokens, prompt, answer, {"row": torch.arange(rows)})


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 12), st.integers(0, 5), st.booleans())
def test_every_example_comes_once_an_epoch_in_its_group(
    groups: int, group: int, batch_groups: int, seed: int, ragged: bool
) -> None:
    rows, size = groups * group, batch_groups * group
    fixed = FixedData(numbered(rows, group, ragged), "numbered", seed, group)
    steps = 3 * rows // size + 1
    batches = [fixed.batch_at(step, size) for step in range(steps)]
    assert all(len(batch) == size for batch in batches)
    assert all(torch.equal(batch.facts["row"], batch.tokens[:, 0]) for batch in batches)
    seen = torch.cat([batch.facts["row"] for batch in batches])
    for epoch in range(3):
        assert sorted(seen[epoch * rows : (epoch + 1) * rows].tolist()) == list(range(rows))
    together = seen.view(-1, group)
    assert torch.equal(together, together[:, :1] // group * group + torch.arange(group))
    # Asked for in another order, by another object, a step is the same.
    other = FixedData(numbered(rows, group, ragged), "numbered", seed, group)
    for step in (steps - 1, 0, steps // 2, 0):
        assert torch.equal(other.batch_at(step, size).tokens, batches[step].tokens)


@pytest.mark.parametrize("ragged", [False, True])
def test_orders_differ_by_epoch_and_seed(ragged: bool) -> None:
    orders = [
        FixedData(numbered(50, 1, ragged), "numbered", seed).batch_at(epoch, 50).tokens[:, 0].tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert list(range(50)) not in orders


@pytest.mark.parametrize("task", [G25, PAIRED, MIXED, MIXED_PAIRED])
def test_fresh_batches_depend_on_step_and_size_alone(task: PathStar) -> None:
    fresh, other, size = FreshData(task, "fresh", 3), FreshData(task, "fresh", 3), 12
    steps = [0, WINDOW - 1, WINDOW, 5, 2**40]
    batches = [fresh.batch_at(step, size) for step in steps]
    for step, batch in reversed(list(zip(steps, batches, strict=True))):
        assert same(batch, other.batch_at(step, size))
        assert len(batch) == size
        assert batch.tokens.shape[1] == batch.layout.last
        assert not one_in_eight(task.identity(batch)).any()
        data.require_groups(task, batch, "fresh")
    assert len({str(batch.tokens.tolist()) for batch in batches}) == len(steps)


def test_a_batch_holds_whole_groups() -> None:
    paired = draw(PAIRED, PAIRED_TEXT, "train", 30, 0)
    for source in (FixedData(paired, PAIRED_TEXT, 0, 3), FreshData(PAIRED, PAIRED_TEXT, 0)):
        with pytest.raises(RequestError, match=r"batch=256, .* groups of 3 rows together, .* a multiple of 3"):
            source.batch_at(0, 256)
    with pytest.raises(RequestError, match="29 training examples are no whole number of groups of 3"):
        FixedData(paired.rows(slice(0, 29)), PAIRED_TEXT, 0, 3)
    with pytest.raises(RequestError, match="batch=0, but a batch has at least 1 row"):
        FixedData(numbered(3), "numbered", 0).batch_at(0, 0)


def test_groups_from_outside_are_checked() -> None:
    paired = draw(PAIRED, PAIRED_TEXT, "train", 30, 0)
    data.require_groups(PAIRED, paired, "file.txt")
    mixed = paired.rows(torch.tensor([0, 1, 2, 3, 4, 6, 5, 7, 8]))
    with pytest.raises(RequestError, match=r"^file\.txt: the 3 examples from number 4 on must hold the same problem"):
        data.require_groups(PAIRED, mixed, "file.txt")
    with pytest.raises(RequestError, match="the 3 examples from number 4 on"):
        data.require_groups(PAIRED, paired.rows(slice(0, 5)), "file.txt")
    # The same graph with its edges in another order is the same problem, but not the same prefix.
    turned = paired.tokens.clone()
    turned[4, :2], turned[4, 3:5] = paired.tokens[4, 3:5], paired.tokens[4, :2]
    other = Batch.of(turned, paired.prompt_len, paired.answer_len)
    assert (PAIRED.identity(other) == PAIRED.identity(paired)).all()
    with pytest.raises(RequestError, match=r"example number 5 must begin with the same \d+ tokens as number 4"):
        data.require_groups(PAIRED, other, "file.txt")


# Batches of rows that differ in length


def test_a_batch_is_as_wide_as_its_longest_row() -> None:
    fixed = FixedData(draw(MIXED, MIXED_TEXT, "train", 3000, 0), MIXED_TEXT, 0)
    batches = [fixed.batch_at(step, 30) for step in range(100)]
    assert all(batch.tokens.shape[1] == batch.layout.last for batch in batches)
    read = sum(batch.tokens.numel() for batch in batches)
    held = sum(int((batch.prompt_len + batch.answer_len).sum()) for batch in batches)
    assert held / read > 0.95
    # Neither long batches first nor short ones: a window's batches come in random order.
    widths = [batch.layout.last for batch in batches[:WINDOW]]
    assert widths not in (sorted(widths), sorted(widths, reverse=True))
    # And not all rows of one length follow each other: the epoch is sorted a window at a time.
    assert len({batch.layout.last for batch in batches[WINDOW : 2 * WINDOW]}) == 5


def test_a_window_is_sorted_and_cut_and_what_shares_a_batch_with_another_epoch_keeps_its_place() -> None:
    groups, lengths = numpy.arange(11)[::-1].copy(), numpy.repeat(numpy.arange(11)[:, None], 2, 1)
    ordered = sort_by_length(groups, lengths, 3, 2, seeds.stream("test"))
    assert ordered[:2].tolist() == [10, 9]
    assert sorted(map(tuple, ordered[2:].reshape(-1, 3).tolist())) == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert groups.tolist() == list(range(11))[::-1]
    assert sort_by_length(groups, lengths, 20, 11, seeds.stream("test")).tolist() == groups.tolist()
    # Groups are sorted by their longest row.
    batch = Batch.of(torch.zeros(4, 9, dtype=torch.int64), torch.tensor([2, 2, 3, 3]), torch.tensor([1, 6, 2, 3]))
    assert group_lengths(batch, 2).tolist() == [[8, 2], [6, 3]]


def test_rows_of_one_length_keep_their_order_whatever_the_size_of_batches() -> None:
    """As in all runs before rows could differ: a permutation an epoch, from the stream of that name."""
    batch = Batch.of(torch.arange(12)[:, None].repeat(1, 3), 1, 2)
    order = seeds.stream("order", "same", 5, 1).permutation(12).tolist()
    for size in (4, 6):
        fixed = FixedData(batch, "same", 5)
        steps = range(12 // size, 24 // size)
        assert torch.cat([fixed.batch_at(step, size).tokens[:, 0] for step in steps]).tolist() == order


def test_fresh_batches_never_repeat_and_hold_little_padding() -> None:
    streams = [FreshData(G25, TEXT, seed) for seed in (0, 1)]
    identities = numpy.concatenate([G25.identity(fresh.batch_at(step, 256)) for fresh in streams for step in range(20)])
    assert len(set(identities.tolist())) == 2 * 20 * 256
    ragged = FreshData(MIXED, MIXED_TEXT, 0)
    batches = [ragged.batch_at(step, 16) for step in range(2 * WINDOW)]
    # Long graphs alone: there are too few short ones for none to come twice.
    long = [batch.rows(batch.answer_len >= 5) for batch in batches]
    identities = numpy.concatenate([MIXED.identity(batch) for batch in long if len(batch)])
    assert len(set(identities.tolist())) == len(identities) > 200
    read = sum(batch.tokens.numel() for batch in batches)
    assert sum(int((batch.prompt_len + batch.answer_len).sum()) for batch in batches) / read > 0.93


# Files


@pytest.mark.parametrize(("name", "file_format"), [("data.txt", "text"), ("data.jsonl", "jsonl")])
@pytest.mark.parametrize(("task", "text"), [(G25, TEXT), (PAIRED, PAIRED_TEXT), (MIXED, MIXED_TEXT)])
def test_files_hold_what_was_written(
    tmp_path: Path, name: str, file_format: Literal["text", "jsonl"], task: PathStar, text: str
) -> None:
    batch = draw(task, text, "test", 30, 0)
    write_examples(task, batch, tmp_path / name, file_format)
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208
    read = read_examples(tmp_path / name, task)
    assert list(read.pairs()) == list(batch.pairs())
    assert read.layout == batch.layout
    arm, there = read.facts["arms"][torch.arange(30), read.facts["goal_arm"]], read.answer_mask()
    assert torch.equal(arm[there], read.padded_answers()[there])
    stream = io.StringIO()
    write_examples(task, batch, stream, file_format)
    assert stream.getvalue() == (tmp_path / name).read_text(encoding="utf-8")


def test_any_format_holds_the_text_form_cut_in_two(tmp_path: Path) -> None:
    prompt = SAMPLE_LINE.partition("=")[0] + "="
    (tmp_path / "a.csv").write_text(f'response,id,prompt\n"32,34,6,16,12",7,"{prompt}"\n')
    (tmp_path / "a.json.gz").write_bytes(
        gzip.compress(json.dumps([{"prompt": prompt, "answer": "32,34,6,16,12"}]).encode())
    )
    for name in ("a.csv", "a.json.gz"):
        assert read_examples(tmp_path / name, G25).answers.tolist() == [[32, 34, 6, 16, 12]]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n", " \n"])
def test_endings_of_the_last_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(f"{SAMPLE_LINE}\r\n{OTHER_LINE}{ending}".encode())
    assert read_examples(path, G25).answers.tolist() == [[32, 34, 6, 16, 12], [32, 3, 19, 47, 28]]


BAD_FILES: list[tuple[str, str | bytes, str]] = [
    ("data.txt", "", ": the file holds no examples"),
    ("data.txt", "\n \n", ": the file holds no examples"),
    ("data.txt", f"{SAMPLE_LINE}\n\n{SAMPLE_LINE}\n", ", line 2: the line is empty"),
    ("data.txt", f"{SAMPLE_LINE}\n{SAMPLE_LINE[:-3]}", ", line 2: the answer has 4 nodes, but the path"),
    ("data.txt", f"{SAMPLE_LINE}\n1,2|2/1,2=1", ", line 2: edge 2 is '2', but an edge is two labels"),
    ("data.txt", SAMPLE_LINE.partition("=")[0] + "=", ", line 1: the answer is missing after the prompt"),
    ("data.txt", f"{SAMPLE_LINE}\n".encode() + b"\xff\xfe", ", line 2: the file is not UTF-8 text"),
    ("data.txt", f"{SAMPLE_LINE}\x0b{SAMPLE_LINE}", ", line 1: label '12\\x0b32' in the answer is not a whole"),
    ("data.jsonl", SAMPLE_LINE, ", line 1: column 3: not JSON"),
    ("data.jsonl", json.dumps({"prompt": SAMPLE_LINE, "answer": "1"}), ", line 1: the prompt holds the answer"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_file_says_where_and_why(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(f"{path}{message}"):
        read_examples(path, G25)


def test_a_file_that_cannot_be_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old one."""
    batch, path = draw(G25, TEXT, "test", 2, 0), tmp_path / "data.txt"
    with refused("none.txt: cannot be read: No such file"):
        read_examples(tmp_path / "none.txt", G25)
    with refused("cannot be read: Is a directory"):
        read_examples(tmp_path, G25)
    with refused("out.txt: the folder ", " does not exist"):
        write_examples(G25, batch, tmp_path / "none" / "out.txt")
    with refused("is a folder; give the path of a file"):
        write_examples(G25, batch, tmp_path)
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(ForeseeError, match=r"data\.txt") as caught:
        write_examples(G25, batch, path)
    assert (caught.value.status, path.read_text(), len(list(tmp_path.iterdir()))) == (1, "old", 1)


# What a run trains on


def test_data_specs() -> None:
    for text, source in (
        ("fixed:200000", "fixed:200000"), ("0200000", "fixed:200000"), ("fresh", "fresh"),
        ("file:some//data:1.txt", "file:some/data:1.txt"),
    ):  # fmt: skip
        assert canonical_data(text) == source
    for wrong in (
        "", "fixed", "fixed:", "fixed:0", "fixed:-1", "fixed:many", "fixed:²", "fresh:1", "file:", "file", "9" * 5000,
    ):  # fmt: skip
        with refused("is none of fixed:N"):
            canonical_data(wrong)
