"""Symbols and their tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

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
    assert len(LETTERS) == 3
    assert "b" in LETTERS
    assert "d" not in LETTERS
    assert 1 not in LETTERS
    assert Vocabulary(("a", "b", "c")) == LETTERS != Vocabulary(("a", "c", "b"))


def test_symbols_are_distinct() -> None:
    with pytest.raises(ValueError, match="distinct"):
        Vocabulary(("a", "b", "a"))


def test_unknown_symbol_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"symbol 'd' is not in the vocabulary of 3 symbols"):
        LETTERS.encode(["a", "d"])


def test_any_token_can_be_shown() -> None:
    """A model's output layer may be larger than the vocabulary; -1 must not count from the end."""
    assert LETTERS.decode([0, 3, -1, 2]) == ["a", "<3>", "<-1>", "c"]


def test_extension_keeps_every_token_and_adds_only_what_is_missing() -> None:
    extended = LETTERS.extended(["$", "b", "|"])
    assert extended.symbols == ("a", "b", "c", "$", "|")
    assert LETTERS.symbols == ("a", "b", "c")
    assert extended.extended(["$", "|"]) == extended
