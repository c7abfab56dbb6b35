"""The one batch type: where prompts end and answers lie."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from foresee.core.batch import NOTHING, Batch, Layout
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

TOKENS = torch.arange(24).view(3, 8)


def ragged(lengths: list[tuple[int, int]], columns: int) -> Batch:
    """A batch whose rows have these prompt and answer lengths."""
    tokens = torch.arange(len(lengths) * columns).view(len(lengths), columns)
    prompt, answer = torch.tensor(lengths, dtype=torch.int64).view(-1, 2).unbind(1)
    return Batch.of(tokens, prompt, answer, {"row": torch.arange(len(lengths))})


def test_one_length_for_all_rows() -> None:
    batch = Batch.of(TOKENS, 5, 2)
    assert len(batch) == 3
    assert batch.layout == Layout(first=5, last=7, uniform=True)
    assert batch.layout.width == 2
    assert batch.prompt_len.tolist() == [5, 5, 5]
    assert batch.answer_len.tolist() == [2, 2, 2]
    assert torch.equal(batch.prompts, TOKENS[:, :5])
    assert torch.equal(batch.answers, TOKENS[:, 5:7])
    assert batch.facts == {}
    assert Batch.of(TOKENS, torch.tensor([5, 5, 5]), torch.tensor([3, 3, 3])).layout == Layout(5, 8, uniform=True)
    with pytest.raises(ValueError, match=r"arms has shape \(2, 2\), but there are 3 rows"):
        Batch.of(TOKENS, 5, 3, {"arms": torch.zeros(2, 2)})


@pytest.mark.parametrize(
    ("lengths", "layout"),
    [
        ([(2, 3), (4, 2)], Layout(2, 6, uniform=False)),
        ([(2, 3), (2, 4)], Layout(2, 6, uniform=False)),
        ([(2, 4), (3, 3)], Layout(2, 6, uniform=False)),
        ([(0, 0), (0, 0)], Layout(0, 0, uniform=True)),
    ],
)
def test_layout_of_differing_rows(lengths: list[tuple[int, int]], layout: Layout) -> None:
    batch = ragged(lengths, 6)
    assert batch.layout == layout
    if not layout.uniform:
        for read in ("answers", "prompts"):
            with pytest.raises(ValueError, match="rows differ in prompt or answer length"):
                getattr(batch, read)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6), st.data())
def test_rows_carries_lengths_and_facts_along(lengths: list[tuple[int, int]], data: st.DataObject) -> None:
    batch = ragged(lengths, 11)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=4))
    part = batch.rows(torch.tensor(chosen, dtype=torch.int64))
    assert part.facts["row"].tolist() == chosen
    assert part.tokens.tolist() == [batch.tokens[row].tolist() for row in chosen]
    assert list(zip(part.prompt_len.tolist(), part.answer_len.tolist(), strict=True)) == [lengths[r] for r in chosen]
    if chosen:
        assert part.layout.uniform == (len({lengths[row] for row in chosen}) == 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_answers_are_marked_cut_out_and_sorted_into_parts_of_one_length(lengths: list[tuple[int, int]]) -> None:
    batch = ragged(lengths, 11)
    rows = batch.tokens.tolist()
    answers = [row[prompt : prompt + size] for row, (prompt, size) in zip(rows, lengths, strict=True)]
    expected = [[start <= column < start + size for column in range(11)] for start, size in lengths]
    assert batch.in_answer().tolist() == expected
    assert [answer for _, answer in batch.pairs()] == answers
    assert [prompt for prompt, _ in batch.pairs()] == [row[:at] for row, (at, _) in zip(rows, lengths, strict=True)]
    parts = batch.uniform_parts()
    assert sorted(row for index, _ in parts for row in index.tolist()) == list(range(len(lengths)))
    for index, part in parts:
        assert part.layout.uniform
        assert index.tolist() == sorted(index.tolist()) == part.facts["row"].tolist()
        assert len(set(lengths)) < 2 or part.tokens.shape[1] == part.layout.last
        assert part.answers.tolist() == [answers[row] for row in index.tolist()]
    if lengths:
        assert batch.layout.first == min(start for start, _ in lengths)
        assert batch.layout.last == max(start + size for start, size in lengths)
        assert batch.layout.uniform == (len(set(lengths)) == 1)
        assert [(part.layout.first, part.layout.width) for _, part in parts] == sorted(set(lengths))
        padded, mask, longest = batch.padded_answers(), batch.answer_mask(), max(size for _, size in lengths)
        assert batch.longest_answer == longest
        assert padded.tolist() == [answer + [NOTHING] * (longest - len(answer)) for answer in answers]
        assert mask.tolist() == [[at < len(answer) for at in range(longest)] for answer in answers]


def test_rows_of_a_uniform_batch_keep_its_layout_even_where_none_is_left() -> None:
    """Trimming leaves out what is padding in every row."""
    batch = Batch.of(TOKENS, 5, 3, {"row": torch.arange(3)})
    assert batch.rows(slice(1, 3)).facts["row"].tolist() == [1, 2]
    assert batch.rows(torch.tensor([True, False, True])).tokens.tolist() == TOKENS[[0, 2]].tolist()
    empty = batch.rows(slice(0, 0))
    assert (len(empty), empty.layout, empty.answers.shape) == (0, batch.layout, (0, 3))
    uneven = ragged([(2, 3), (4, 2), (1, 1)], 11)
    assert uneven.trimmed().tokens.tolist() == uneven.tokens[:, :6].tolist()
    assert uneven.trimmed().layout == uneven.layout


@pytest.mark.parametrize(
    ("prompt", "answer", "reason"),
    [
        (6, 3, "answers end at column 9, but rows have 8 columns"),
        (-1, 3, "negative"),
        (5, -2, "negative"),
        (torch.tensor([1, 2, 6]), torch.tensor([1, 2, 3]), "answers end at column 9"),
        (torch.tensor([1, -2, 6]), 1, "negative"),
        (torch.tensor([1, 2, 6]), torch.tensor([1, -1, 1]), "negative"),
        (torch.tensor([5, 5]), 1, r"prompt_len has shape \(2,\), but there are 3 rows"),
        (5, torch.tensor([1]), r"answer_len has shape \(1,\), but there are 3 rows"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(prompt: Tensor | int, answer: Tensor | int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Batch.of(TOKENS, prompt, answer)


def test_a_batch_is_frozen_and_keeps_its_own_facts() -> None:
    facts = {"row": torch.arange(3)}
    batch = Batch.of(TOKENS, 5, 3, facts)
    facts["other"] = torch.zeros(3)
    assert set(batch.facts) == {"row"}
    with pytest.raises(FrozenInstanceError):
        batch.tokens = TOKENS  # type: ignore[misc]  # the point of the test


def test_to_moves_everything() -> None:
    """The meta device stands in for an accelerator: it holds shapes only, so a tensor left behind would show."""
    moved = Batch.of(TOKENS, 5, 3, {"row": torch.arange(3)}).to("meta")
    tensors = [moved.tokens, moved.prompt_len, moved.answer_len, *moved.facts.values(), moved.in_answer()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.layout == Layout(5, 8, uniform=True)
    assert moved.answers.shape == (3, 3)
    assert moved.rows(slice(0, 2)).answers.shape == (2, 3)


# Symbols and their tokens


LETTERS = Vocabulary(("a", "b", "c"))


@given(st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=20), st.data())
def test_decode_undoes_encode(symbols: list[str], data: st.DataObject) -> None:
    vocab = Vocabulary(tuple(symbols))
    written = data.draw(st.lists(st.sampled_from(symbols)))
    tokens = vocab.encode(written)
    assert all(0 <= token < len(vocab) for token in tokens)
    assert vocab.decode(tokens) == written


def test_a_token_is_the_place_of_its_symbol() -> None:
    assert [LETTERS.token(symbol) for symbol in LETTERS] == [0, 1, 2]
    assert (len(LETTERS), "b" in LETTERS, "d" in LETTERS, 1 in LETTERS) == (3, True, False, False)
    assert Vocabulary(("a", "b", "c")) == LETTERS != Vocabulary(("a", "c", "b"))
    with pytest.raises(ValueError, match="distinct"):
        Vocabulary(("a", "b", "a"))
    with pytest.raises(RequestError, match=r"symbol 'd' is not in the vocabulary of 3 symbols"):
        LETTERS.encode(["a", "d"])
    # A model's output layer may be larger than the vocabulary; -1 must not count from the end.
    assert LETTERS.decode([0, 3, -1, 2]) == ["a", "<3>", "<-1>", "c"]
    extended = LETTERS.extended(["$", "b", "|"])
    assert extended.symbols == ("a", "b", "c", "$", "|")
    assert LETTERS.symbols == ("a", "b", "c")
    assert extended.extended(["$", "|"]) == extended
