"""A vocabulary: symbols and their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from foresee.core.errors import RequestError


@dataclass(frozen=True)
class CheckpointTokens:
    """What the symbols of a vocabulary are in a checkpoint whose own tokenizer made them."""

    tokenizer: str
    """A digest of the tokenizer's files."""
    path: str
    """Where it was found."""
    ids: tuple[int, ...]
    """The checkpoint's token of each of the first symbols; those after them have none."""


@dataclass(frozen=True)
class Vocabulary:
    """Distinct symbols; a symbol's token is its place in ``symbols``. ``checkpoint`` is given where they are tokens of
    a checkpoint's own tokenizer; the first ``words`` of them are labels for each of which a checkpoint is to read a
    word of its own."""

    symbols: tuple[str, ...]
    checkpoint: CheckpointTokens | None = None
    words: int = 0

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError("a vocabulary's symbols must be distinct")

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {symbol: token for token, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def __iter__(self) -> Iterator[str]:
        return iter(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._tokens

    def token(self, symbol: str) -> int:
        """The token of a symbol; raises ``RequestError`` where it has none."""
        if symbol not in self._tokens:
            raise RequestError(f"symbol {symbol!r} is not in the vocabulary of {len(self)} symbols")
        return self._tokens[symbol]

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Tokens of symbols."""
        return [self.token(symbol) for symbol in symbols]

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """Symbols of tokens; a token out of range is written ``<token>``, so that any model output can be shown."""
        return [self.symbols[token] if 0 <= token < len(self) else f"<{token}>" for token in tokens]

    def extended(self, symbols: Sequence[str]) -> Vocabulary:
        """This vocabulary with the missing ones of ``symbols`` added at its end; present ones keep their token."""
        added = tuple(symbol for symbol in symbols if symbol not in self)
        return replace(self, symbols=self.symbols + added)
