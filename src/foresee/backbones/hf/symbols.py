"""Task symbols as tokens of a checkpoint: which row of its tables belongs to each symbol, out of them and back in.

Each symbol is its own single token of the checkpoint's tokenizer, the one that the paper's text form
``32,3|16,12/32,12=`` gives it: a label after a comma, a delimiter after a digit. So a sentencepiece label is the
token without the word-start mark, and only where the tokenizer knows it at the start of a word alone is that one taken.

Labels that are to be words (``labels=words``) take, in the order of the tokenizer's numbers, its tokens that are a
space and ``WORD``, whose plural (with an s) is a token too: so they are words and not beginnings of words, and of two
forms of a word only one is among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from foresee.core.checkpoint_files import has_tokenizer, load_tokenizer, tokenizer_digest
from foresee.core.errors import RequestError
from foresee.core.seeds import global_stream_from, torch_stream
from foresee.core.vocabulary import CheckpointTokens, Vocabulary

Symbols = Literal["auto", "tokenizer", "first"]

WORD = re.compile("[a-z]{4,8}")
"""Four to eight small letters."""

WORD_STARTS = ("Ġ", "▁")
"""How byte-level and sentencepiece tokenizers write the space before a word."""

FRESH_NOISE = 0.1
"""Standard deviation of a fresh row's noise as a share of the table's: enough to tell two fresh rows apart."""


def token_ids(vocab: Vocabulary, folder: Path, path: str, symbols: Symbols, rows: int) -> tuple[int | None, ...]:
    """The checkpoint's token of each symbol of ``vocab``, in order.

    ``symbols`` is "tokenizer"; "first", which numbers the table's first rows as the task numbers its symbols; or
    "auto", the tokenizer where there is one. Under a tokenizer, symbols in angle brackets (``<mask>``), which
    objectives add, have no token: None. A vocabulary that a checkpoint's tokenizer made brings the tokens with it.
    Raises ``RequestError`` on one of another tokenizer, on a symbol that is not a single token, on two symbols of one
    token, and on a table of too few ``rows``.
    """
    with_tokenizer = has_tokenizer(folder)
    if symbols == "tokenizer" and not with_tokenizer:
        raise RequestError(f"hf: {path} holds no tokenizer; symbols=first takes the first rows of its table")
    if symbols != "first" and vocab.checkpoint is not None:
        return _own(vocab, vocab.checkpoint, folder, path, rows)
    if symbols == "first" or not with_tokenizer:
        if len(vocab) > rows:
            raise RequestError(f"hf: the task has {len(vocab)} symbols, but the table of {path} has {rows} rows")
        return tuple(range(len(vocab)))
    tokenizer = load_tokenizer(folder, path)
    words = tuple(choose_words(tokenizer, vocab.words, path, rows))
    marks = vocab.symbols[vocab.words :]
    ids = words + tuple(None if _bracketed(symbol) else _single(symbol, tokenizer, path, rows) for symbol in marks)
    holder: dict[int, str] = {}
    for symbol, token in zip(vocab, ids, strict=True):
        if token is not None and token in holder:
            raise RequestError(
                f"hf: the tokenizer of {path} gives symbols {holder[token]!r} and {symbol!r} the same token; "
                "symbols=first takes the first rows of its table instead"
            )
        if token is not None:
            holder[token] = symbol
    return ids


def _own(vocab: Vocabulary, tokens: CheckpointTokens, folder: Path, path: str, rows: int) -> tuple[int | None, ...]:
    if tokenizer_digest(folder) != tokens.tokenizer:
        raise RequestError(
            f"hf: the task's tokens are those of the tokenizer of {tokens.path}, which is not that of {path}; give the "
            f"task tokenizer=hf:{path}"
        )
    if max(tokens.ids, default=0) >= rows:
        raise RequestError(
            f"hf: the tokenizer of {path} gives token {max(tokens.ids)}, but the checkpoint's table has {rows} rows"
        )
    return tokens.ids + (None,) * (len(vocab) - len(tokens.ids))


def _bracketed(symbol: str) -> bool:
    return len(symbol) > 2 and symbol.startswith("<") and symbol.endswith(">")


def _single(symbol: str, tokenizer: Any, path: str, rows: int) -> int:
    """The one token of a symbol within text, or of the symbol alone where text around it changes how it is cut."""

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    context = "," if symbol.isalnum() else "0"
    before, within = encode(context), encode(context + symbol)
    # A word-start mark that stands by itself is no part of the symbol.
    pieces = [token for token in encode(symbol) if tokenizer.decode([token]).strip()]
    for candidate in (within[len(before) :] if within[: len(before)] == before else [], pieces):
        if len(candidate) == 1 and candidate[0] != tokenizer.unk_token_id:
            if candidate[0] >= rows:
                raise RequestError(
                    f"hf: symbol {symbol!r} is token {candidate[0]} of the tokenizer of {path}, but the table has "
                    f"{rows} rows"
                )
            return candidate[0]
    cut = tokenizer.convert_ids_to_tokens(pieces)
    became = f"splits symbol {symbol!r} into {cut}" if len(cut) > 1 else f"has no token for symbol {symbol!r}"
    raise RequestError(
        f"hf: the tokenizer of {path} {became}; every symbol must be one token: choose fewer or other labels, "
        "labels=words to read words of its own in their place, or symbols=first to take the first rows of its table "
        "instead"
    )


def choose_words(tokenizer: Any, count: int, path: str, rows: int) -> list[int]:
    """The tokens of a tokenizer's first ``count`` words (see above). Raises ``RequestError`` where it has fewer."""
    if not count:
        return []
    names = tokenizer.convert_ids_to_tokens(list(range(min(rows, len(tokenizer)))))
    marked = {name: token for token, name in enumerate(names) if isinstance(name, str) and name[:1] in WORD_STARTS}
    found = (
        token
        for name, token in marked.items()
        if WORD.fullmatch(name[1:]) and f"{name}s" in marked and tokenizer.decode([token]).strip() == name[1:]
    )
    chosen = list(islice(found, count))
    if len(chosen) < count:
        raise RequestError(
            f"hf: labels=words needs {count} words, but the tokenizer of {path} has {len(chosen)} that are one token "
            "each; choose fewer labels, or symbols=first to take the first rows of its table"
        )
    return chosen


def rows_of(table: Tensor, ids: tuple[int | None, ...], generator: torch.Generator) -> Tensor:
    """[V, ...] copied rows of ``table`` [N, ...]; where an id is None, the mean of all rows plus noise."""
    table = table.detach()
    picked = table[torch.tensor([token or 0 for token in ids], dtype=torch.int64)].clone()
    for index, token in enumerate(ids):
        if token is None:
            noise = torch.randn(picked[index].shape, generator=generator, dtype=table.dtype)
            picked[index] = table.mean(0) + FRESH_NOISE * table.std() * noise
    return picked


def exported_ids(ids: tuple[int | None, ...], rows: int) -> tuple[int, ...]:
    """The token of every symbol in a model whose table had ``rows`` rows: its own, or a row added at the end."""
    fresh = iter(range(rows, rows + len(ids)))
    return tuple(next(fresh) if token is None else token for token in ids)


@torch.no_grad()
def put_back(
    model: Any, state: Mapping[str, Tensor], ids: tuple[int | None, ...], rows: Mapping[str, Tensor | None]
) -> None:
    """Writes into ``model``, a causal language model in float32: ``state``, the weights of its inner model but for the
    embedding table, and ``rows`` "table", "head" (None: tied) and "bias" (None: there is none) of the tokens ``ids``.
    Symbols without a token of their own get new rows at the end of the tables."""
    given = {name: value.detach().cpu().float() for name, value in state.items()}
    kept = model.base_model.load_state_dict(given, strict=False)
    inputs = model.get_input_embeddings()
    tables = {name for name, value in model.base_model.named_parameters() if value is inputs.weight}
    if kept.unexpected_keys or set(kept.missing_keys) - tables:
        raise RuntimeError(f"weights without a place, or places without weights: {kept}")
    before = len(inputs.weight)
    if None in ids:
        with global_stream_from(torch_stream("hf", "more rows")):
            model.resize_token_embeddings(before + ids.count(None), mean_resizing=False)
    places = torch.tensor(exported_ids(ids, before), dtype=torch.int64)
    head = model.get_output_embeddings()
    targets = {"table": model.get_input_embeddings().weight, "head": head.weight, "bias": head.bias}
    for name, trained in rows.items():
        if trained is not None:
            targets[name][places] = trained.detach().cpu().float()
