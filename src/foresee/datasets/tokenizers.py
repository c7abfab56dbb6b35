"""Cutting text into tokens: characters, bytes or words; a checkpoint's own tokenizer is in ``checkpoint_tokenizer``.

A tokenizer numbers the pieces of text from 0; the symbols that frame a row come after them (``framing``). One that
learns its symbols from a text can be written as JSON and made again from it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy
from numpy.typing import NDArray

from foresee.datasets.arrays import Array
from foresee.datasets.texts import Block

Ends = NDArray[numpy.int64]

UNKNOWN = "<unknown>"
"""The symbol of whatever else is not in a vocabulary of characters or words."""

REPLACEMENT = "\ufffd"
"""How an unknown character is written."""

WORD = re.compile(r"<unknown>|\w+|[^\w\s]")
"""A run of letters, digits and underscores, or any other character that is no white space."""

MOST_COUNTED = 1 << 20
"""Different words that are counted at a time."""


class Tokenizer(ABC):
    """Text to tokens and back."""

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """A distinct name for each token."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; those out of range are left out."""

    def encode_block(self, block: Block) -> tuple[Array, Ends]:
        """The tokens of every text of a block, one after the other, and where each text's end."""
        rows = self.encode_all(list(_split(block.text.tobytes(), block.ends.tolist())))
        ends = numpy.cumsum(numpy.fromiter(map(len, rows), numpy.int64, len(rows)))
        return numpy.fromiter(chain.from_iterable(rows), numpy.uint32, int(ends[-1])), ends

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each of several texts."""
        return [self.encode(text) for text in texts]


class Bytes(Tokenizer):
    """The bytes of the text's UTF-8; symbols are printable ASCII characters, and ``<0x0A>`` for other bytes."""

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return tuple(chr(byte) if 33 <= byte < 127 else f"<0x{byte:02X}>" for byte in range(256))

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if 0 <= token < 256).decode(errors="replace")

    def encode_block(self, block: Block) -> tuple[Array, Ends]:
        return block.text, block.ends


class Characters(Tokenizer):
    """Unicode characters; the last token stands for every character that is not among ``known``."""

    def __init__(self, known: str) -> None:
        self.known = known

    @staticmethod
    def learnt(blocks: Iterable[Block], limit: int) -> Characters:
        """The ``limit`` most frequent characters of a text, in the order of their numbers in Unicode."""
        counts = numpy.zeros(0x110000, numpy.int64)
        for block in blocks:
            counts += numpy.bincount(_code_points(block.text), minlength=len(counts))
        counts[ord(REPLACEMENT)] = 0  # how the unknown one is written
        seen = numpy.flatnonzero(counts)
        kept = seen[numpy.argsort(-counts[seen], kind="stable")[:limit]]
        return Characters("".join(map(chr, numpy.sort(kept).tolist())))

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return (*self.known, UNKNOWN)

    @cached_property
    def _token_of(self) -> NDArray[numpy.uint32]:
        """[every character] its token."""
        found = numpy.full(0x110000, len(self.known), numpy.uint32)
        found[[ord(character) for character in self.known]] = numpy.arange(len(self.known))
        return found

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self._token_of[[ord(character) for character in text]].tolist() if text else []
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        written = self.known + REPLACEMENT
        return "".join(written[token] for token in tokens if 0 <= token < len(written))

    def encode_block(self, block: Block) -> tuple[Array, Ends]:
        begins = (block.text & 0xC0) != 0x80  # of a character; the others continue one
        counted = numpy.concatenate((numpy.zeros(1, numpy.int64), numpy.cumsum(begins)))
        return self._token_of[_code_points(block.text)], counted[block.ends]


def _code_points(text: Array) -> NDArray[numpy.uint32]:
    return numpy.frombuffer(text.tobytes().decode().encode("utf-32-le"), "<u4")


class _OrUnknown(dict[str, int]):
    """Tokens of words, and for every other word the number after the last."""

    def __missing__(self, word: str) -> int:
        return len(self)


class Words(Tokenizer):
    """Words and marks of punctuation (``WORD``), without the white space between them; the last token stands for every
    word that is not among ``known``. Written with single spaces, so spacing is not kept."""

    def __init__(self, known: Sequence[str]) -> None:
        self.known = tuple(known)

    @staticmethod
    def learnt(blocks: Iterable[Block], limit: int) -> Words:
        """The ``limit`` most frequent words of a text, the most frequent first.

        At most ``MOST_COUNTED`` different words are counted at a time: when there are more, the rarer half of them is
        forgotten, so that a text of ever new words does not fill the memory. A word that stays rare for long may then
        be missing from a vocabulary of nearly that size.
        """
        counts: Counter[str] = Counter()
        for block in blocks:
            counts.update(WORD.findall(_spaced(block)))
            if len(counts) > MOST_COUNTED:
                counts = Counter(dict(_by_frequency(counts)[: MOST_COUNTED // 2]))
        counts.pop(UNKNOWN, None)
        return Words([word for word, _ in _by_frequency(counts)[:limit]])

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return (*self.known, UNKNOWN)

    @cached_property
    def _token_of(self) -> _OrUnknown:
        return _OrUnknown({word: token for token, word in enumerate(self.known)})

    def encode(self, text: str) -> list[int]:
        return list(map(self._token_of.__getitem__, WORD.findall(text)))

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(self.symbols[token] for token in tokens if 0 <= token < len(self.symbols))


def _by_frequency(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _spaced(block: Block) -> str:
    """The texts of a block with line ends between them, so that no word reaches from one into the next."""
    return "\n".join(_split(block.text.tobytes(), block.ends.tolist()))


def _split(raw: bytes, ends: list[int]) -> Iterator[str]:
    start = 0
    for end in ends:
        yield raw[start:end].decode()
        start = end
