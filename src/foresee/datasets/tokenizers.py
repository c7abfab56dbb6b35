"""Cutting text into tokens: characters, bytes or words, or by a checkpoint's own tokenizer.

The library ``tokenizers`` cuts for a checkpoint. The others work without it, and its expressions do not cut all scripts
as Python's do, so they are a few lines here.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from foresee.core.checkpoint_files import checkpoint_folder, load_tokenizer, tokenizer_digest
from foresee.core.errors import RequestError
from foresee.datasets.cache import key_of, load_or_build
from foresee.datasets.request import Request
from foresee.datasets.sources import BadRow, digest_of, read_rows, refuse

UNKNOWN = "<unknown>"
"""The symbol of whatever else is not in a vocabulary of characters or words."""

REPLACEMENT = "\ufffd"
"""How an unknown character is written."""

BYTES = [chr(byte) if 33 <= byte < 127 else f"<0x{byte:02X}>" for byte in range(256)]
"""Symbols of bytes."""

WORD = re.compile(r"<unknown>|\w+|[^\w\s]")
"""A run of letters, digits and underscores, or any other character that is no white space."""

MOST_COUNTED = 1 << 20
"""Different pieces that are counted at a time."""


class Tokenizer(ABC):
    """Text to tokens and back, with the tokens ``before`` and ``after`` every prompt and the one at the ``end`` of
    every response. ``symbols`` are distinct names of all tokens; ``key`` names the content for the cache."""

    key: list[str]
    symbols: tuple[str, ...]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    end: int | None = None

    @abstractmethod
    def encode(self, texts: list[str]) -> list[list[int]]:
        """Cuts each of several texts into tokens."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Writes tokens as text; those that stand for none are left out."""

    def frame_prompt(self, tokens: list[int]) -> list[int]:
        """Puts around a prompt what belongs there."""
        return [*self.before, *tokens, *self.after]

    def frame_response(self, tokens: list[int]) -> list[int]:
        """Closes a response."""
        return tokens if self.end is None else [*tokens, self.end]

    def decode_prompt(self, tokens: list[int]) -> str:
        """Writes a prompt without its frame."""
        framed = bool(self.before) and tuple(tokens[: len(self.before)]) == self.before
        return self.decode(tokens[len(self.before) :] if framed else tokens)

    def decode_response(self, tokens: list[int]) -> str:
        """Writes a response up to its end."""
        return self.decode(tokens[: tokens.index(self.end)] if self.end in tokens else tokens)


class PieceTokenizer(Tokenizer):
    """Pieces of text: characters, words and marks (``WORD``) which are written with single spaces, or the bytes of its
    UTF-8. The last piece stands for every other, and after the pieces come two symbols of the frame."""

    def __init__(self, request: Request, files: list[Path]) -> None:
        """Learns characters or words from the files, once for each content. Raises as ``learn_pieces`` does."""
        self.kind = kind = request.tokenizer
        known: list[str] = []
        if kind != "bytes":
            key = key_of("vocabulary", digest_of(files), request.fields, kind, request.vocabulary)
            known = load_or_build("vocabularies", key, lambda _: {"known": learn_pieces(request, files)})[1]["known"]
        pieces = BYTES if kind == "bytes" else [*known, UNKNOWN]
        self.key = [kind, key_of(pieces)]
        self.symbols = (*pieces, "<response>", "<end>")
        self.after = () if request.boundary == "none" else (len(pieces),)
        self.end = len(pieces) + 1 if request.ending == "symbol" else None
        self._written = (*known, REPLACEMENT if kind == "characters" else UNKNOWN)
        self._token_of = {piece: token for token, piece in enumerate(known)}

    def encode(self, texts: list[str]) -> list[list[int]]:
        if self.kind == "bytes":
            return [list(text.encode()) for text in texts]
        find, unknown = self._token_of.get, len(self._token_of)
        return [[find(piece, unknown) for piece in cut_pieces(self.kind, text)] for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        if self.kind == "bytes":
            return bytes(token for token in tokens if 0 <= token < 256).decode(errors="replace")
        known = (self._written[token] for token in tokens if 0 <= token < len(self._written))
        return (" " if self.kind == "words" else "").join(known)


def cut_pieces(kind: str, text: str) -> Iterable[str]:
    """Cuts a text into words or characters."""
    return WORD.findall(text) if kind == "words" else text


def learn_pieces(request: Request, files: list[Path]) -> list[str]:
    """Learns the most frequent pieces of all texts: words, the most frequent first, or characters, as Unicode numbers
    them. Raises ``RequestError`` on a file or, unless bad rows are skipped, a row that cannot be read.

    At most ``MOST_COUNTED`` different ones are counted at a time: when there are more, the rarer half of them is
    forgotten, so that a text of ever new words does not fill the memory. A word that stays rare for long may then be
    missing from a vocabulary of nearly that size.
    """
    kind = request.tokenizer
    counts: Counter[str] = Counter()
    for row in read_rows(files, request.fields):
        if not isinstance(row, BadRow):
            counts.update(cut_pieces(kind, row.prompt))
            counts.update(cut_pieces(kind, row.response))
        elif not request.skip_bad:
            raise refuse(files, row)
        if len(counts) > MOST_COUNTED:
            counts = Counter(dict(_by_frequency(counts)[: MOST_COUNTED // 2]))
    counts.pop(UNKNOWN if kind == "words" else REPLACEMENT, None)
    kept = [piece for piece, _ in _by_frequency(counts)[: request.vocabulary]]
    return kept if kind == "words" else sorted(kept)


def _by_frequency(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


class CheckpointTokenizer(Tokenizer):
    """The tokenizer of a checkpoint, in a folder or under a hub id, with the checkpoint's numbers. Texts are cut
    without the tokens that it adds around them, of which ``before`` are those that it puts first."""

    def __init__(self, request: Request) -> None:
        """Raises ``RequestError`` where there is no tokenizer, where it does not say which token ends a text, and on a
        boundary that it cannot write."""
        path = self.path = request.checkpoint or ""
        folder = checkpoint_folder(path)
        self.digest = tokenizer_digest(folder)
        if not self.digest:
            raise RequestError(f"data: tokenizer=hf:{path}: the checkpoint holds no tokenizer")
        import tokenizers

        self.key = ["checkpoint", self.digest, tokenizers.__version__]
        self._tokenizer: Any = load_tokenizer(folder, path)
        if self._tokenizer.eos_token_id is None:
            raise RequestError(
                f"data: tokenizer=hf:{path} has no end-of-text token (eos_token), so where a response ends cannot be "
                "told; give one in tokenizer_config.json"
            )
        # No symbol between: a checkpoint was never shown one, and rows of its table are its own.
        if request.boundary == "symbol":
            raise RequestError("data: boundary=symbol is not for a checkpoint's tokenizer; end the prompts as you like")
        self.end = int(self._tokenizer.eos_token_id) if request.ending == "symbol" else None
        names = self._tokenizer.convert_ids_to_tokens(list(range(len(self._tokenizer))))
        self.symbols = tuple(f"<{token}>" if name is None else name for token, name in enumerate(names))
        bare, framed = (self._tokenizer.encode("a", add_special_tokens=special) for special in (False, True))
        places = [at for at in range(len(framed) - len(bare) + 1) if framed[at : at + len(bare)] == bare]
        self.before = tuple(framed[: places[0]]) if places else ()

    def encode(self, texts: list[str]) -> list[list[int]]:
        # verbose=False: it would warn of texts longer than the model reads, which is said where the model is known.
        found: list[list[int]] = self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        known = [token for token in tokens if 0 <= token < len(self.symbols)]
        text: str = self._tokenizer.decode(known, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
