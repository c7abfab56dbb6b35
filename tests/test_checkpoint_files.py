"""What is read of a checkpoint's folder without its model: which tokens stand for task symbols, and digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints as tiny
import torch
from refusals import refused
from transformers import AutoTokenizer

from foresee.backbones.hf import HuggingFace
from foresee.backbones.hf.symbols import Symbols, rows_of, token_ids
from foresee.core import files
from foresee.core.checkpoint_files import checkpoint_digest
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

ROWS = 61
LABELS = [str(label) for label in range(14)]


def found(vocab: Vocabulary, folder: Path, symbols: Symbols = "auto", rows: int = ROWS) -> tuple[int | None, ...]:
    return token_ids(vocab, folder, str(folder), symbols, rows)


def merged(folder: Path) -> Path:
    return tiny.merged_digits(folder, LABELS)


def as_words(folder: Path) -> Path:
    return tiny.words(folder, [*LABELS, ",", "|", "=", "/", "$"])


@pytest.mark.parametrize(
    ("make", "labels", "more", "says"),
    [
        (merged, 14, 15, r"splits symbol '14' into \['1', '4'\]"),
        (tiny.single_digits, 10, 12, r"splits symbol '10' into \['1', '0'\]"),
        (as_words, 14, 15, "has no token for symbol '14'"),
        (tiny.word_starts, 10, 11, "splits symbol '10' into"),
    ],
)
def test_each_symbol_is_the_token_that_the_paper_s_text_gives_it_or_is_refused(
    make: Callable[[Path], Any], labels: int, more: int, says: str, tmp_path: Path
) -> None:
    make(tmp_path)
    vocab = tiny.path_star(labels)
    ids = dict(zip(vocab, found(vocab, tmp_path), strict=True))
    assert len(set(ids.values())) == len(vocab)
    last, other = str(labels - 1), str(labels - 2)
    text = f"{last},3|{other},{last}/{last},3="
    written = AutoTokenizer.from_pretrained(tmp_path).encode(text, add_special_tokens=False)
    named = {token: symbol for symbol, token in ids.items()}
    symbols = [named[token] for token in written if token in named]
    expected = [last, "3", "|", other, last, "/", last, "3", "="]
    # At the start of a text sentencepiece marks a word, so that the first label is another token there.
    assert symbols == (expected[1:] if make is tiny.word_starts else expected)
    with pytest.raises(RequestError, match=f"the tokenizer of {tmp_path} {says}.*symbols=first"):
        found(tiny.path_star(more), tmp_path)


def test_odd_tokenizers(tmp_path: Path) -> None:
    """A word start is taken where a digit has no other token. Two symbols of one token are refused, and damage is."""
    tiny.marked_words(tmp_path, "789|")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    ids = found(Vocabulary(("7", "8", "|")), tmp_path)
    assert [tokenizer.convert_ids_to_tokens(token) for token in ids] == ["▁7", "▁8", "▁|"]
    lower = tiny.lower_cased(tmp_path / "lower")
    assert found(Vocabulary(("A", "b")), lower) == (1, 2)
    with refused("gives symbols 'A' and 'a' the same token; symbols=first"):
        found(Vocabulary(("A", "b", "a")), lower)
    tiny.config("gpt2").save_pretrained(tmp_path / "damaged")
    tokenizer_file = tiny.single_digits(tmp_path / "whole") / "tokenizer.json"
    for damage in ("{}", tokenizer_file.read_text().replace('"ByteLevel"', '"ByteLeve"')):
        (tmp_path / "damaged" / "tokenizer.json").write_text(damage)
        with refused("the tokenizer of ", " cannot be loaded (", "symbols=first does without it"):
            found(tiny.path_star(8), tmp_path / "damaged")


def test_symbols_in_angle_brackets_have_no_token_and_a_token_beyond_the_table_is_refused(tmp_path: Path) -> None:
    merged(tmp_path)
    assert found(Vocabulary(("<mask>", "3", "<x>")), tmp_path) == (None, 3, None)
    with refused("symbol '<>'"):
        found(Vocabulary(("<>",)), tmp_path)
    with refused("symbol '10' is token 15 of the tokenizer ", " the table has 15 rows"):
        found(tiny.path_star(11), tmp_path, rows=15)


def test_the_first_rows_are_taken_when_asked_or_without_a_tokenizer(tmp_path: Path) -> None:
    vocab = tiny.path_star(14).extended(("<mask>",))
    assert found(vocab, tmp_path) == tuple(range(19))
    with pytest.raises(RequestError, match="holds no tokenizer; symbols=first takes the first rows"):
        found(vocab, tmp_path, "tokenizer")
    merged(tmp_path)
    assert found(vocab, tmp_path, "first") == tuple(range(19))
    assert found(vocab, tmp_path, "tokenizer") == found(vocab, tmp_path) != tuple(range(19))
    with pytest.raises(RequestError, match=r"the task has 19 symbols, but the table of .* has 18 rows"):
        found(vocab, tmp_path, "first", rows=18)


def test_rows_are_copies(tmp_path: Path) -> None:
    table = torch.randn(5, 3, generator=tiny.generator("table"), requires_grad=True)
    rows = rows_of(table, (4, 0, 4), tiny.generator())
    assert torch.equal(rows, table[[4, 0, 4]])
    assert not rows.requires_grad
    rows.zero_()
    assert table.abs().min() > 0
    bias = rows_of(table[:, 0], (None, 2), tiny.generator())
    assert bias.shape == (2,)
    assert bias[1] == table[2, 0]
    assert 0 < (bias[0] - table[:, 0].mean()).abs() < table.std()


# Digests --------------------------------------------------------------------------------------------------------------


def test_another_checkpoint_under_the_same_name_is_another_run(tmp_path: Path) -> None:
    folder = tiny.single_digits(tiny.save(tmp_path))
    before = checkpoint_digest(str(folder))
    assert len(before) == 16
    assert HuggingFace.content_digest({"path": str(folder)}) == before
    (folder / "README.md").write_text("a card says nothing about what is computed")
    assert checkpoint_digest(str(folder)) == before
    digests = {before}
    for change in (
        lambda: tiny.save(folder, std=0.2),
        lambda: tiny.edit_config(folder, layer_norm_epsilon=1e-3),
        lambda: tiny.merged_digits(folder, ["10"]),
    ):
        change()
        digests.add(checkpoint_digest(str(folder)))
    assert len(digests) == 4
    with pytest.raises(RequestError, match="no such folder"):
        checkpoint_digest(str(tmp_path / "missing"))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of a checkpoint, whose digest is remembered at once though they are small and new."""
    monkeypatch.setenv("FORESEE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "LARGE", 0)
    monkeypatch.setattr(files, "SETTLED_SECONDS", -1e9)
    monkeypatch.setattr(files, "_hashes", {})
    return tiny.save(tmp_path / "checkpoint") / "model.safetensors"


def hashed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """The checkpoint's digest, and how many files were read for it."""
    read: list[str] = []
    real = hashlib.file_digest

    def counted(opened: Any, kind: str) -> Any:
        read.append(opened.name)
        return real(opened, kind)

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", counted)
        return checkpoint_digest(str(weights.parent)), len(read)


def test_weights_are_hashed_once_while_they_stay(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SETTLED_SECONDS", 2.0), ("LARGE", 1 << 20)):  # new or small files, each time
        with monkeypatch.context() as patch:
            patch.setattr(files, name, value)
            assert [hashed(weights, monkeypatch)[1] for _ in range(2)] == [2, 2]
    digest, read = hashed(weights, monkeypatch)
    assert read == 2
    assert hashed(weights, monkeypatch) == (digest, 0)
    monkeypatch.setattr(files, "_hashes", {})  # as in another process
    assert hashed(weights, monkeypatch) == (digest, 0)
    os.utime(weights, ns=(1, 1))
    assert hashed(weights, monkeypatch) == (digest, 1)
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    changed, read = hashed(weights, monkeypatch)
    assert (changed != digest, read) == (True, 1)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"PATH": "short"}', '{"PATH": [1, 2, 3, 4, "wrong"]}'])
def test_a_damaged_cache_of_digests_costs_time_alone(
    weights: Path, content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest, _ = hashed(weights, monkeypatch)
    (tmp_path / "cache" / "checkpoint-digests.json").write_text(content.replace("PATH", str(weights.resolve())))
    monkeypatch.setattr(files, "_hashes", {})
    assert hashed(weights, monkeypatch)[0] == digest
