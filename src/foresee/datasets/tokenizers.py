"""Cutting text into tokens: characters, bytes or words, or by a checkpoint's own tokenizer.

The library ``tokenizers`` cuts for a checkpoint. The others work without it, and its expressions cut some scripts, as
Devanagari, otherwise than Python's, so they are a few lines here.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence, Sized
from functools import cache, cached_property
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from foresee.core.checkpoint_files import checkpoint_folder, load_tokenizer, tokenizer_digest
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.datasets.cache import Array, Rows, key_of, load_or_build
from foresee.datasets.request import Request
from foresee.datasets.sources import BadRow, digest_of, read_rows, refuse

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNKNOWN = "<unknown>"
"""The symbol of whatever else is not in a vocabulary of characters or words."""

REPLACEMENT = "\ufffd"
"""How an unknown character is written."""


@cache
def word_pattern() -> re.Pattern[str]:
    """A run of letters, digits, underscores and the combining marks on them (Unicode's category M, as vowel signs are
    in Indic scripts, and the joiners between them), or any other character that is no white space."""
    marks = [code for code in range(0x1E900 + 0x100) if unicodedata.category(chr(code))[0] == "M"]
    spans = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in _runs(marks)) + "\U000e0100-\U000e01ef"
    return re.compile(rf"<unknown>|\w(?:[\w{spans}]|[\u200c\u200d](?=[\w{spans}]))*|[^\w\s]")


LETTERS = r"\p{L}\p{N}_"
"""What Python's \\w stands for, to the expressions of the library ``tokenizers``."""


def _runs(numbers: list[int]) -> list[list[int]]:
    """Ascending numbers, in runs without a gap."""
    return [list(map(itemgetter(1), run)) for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]


MOST_COUNTED = 1 << 20
"""Different pieces that are counted at a time."""


class Tokenizer(ABC):
    """Text to tokens and back, and the frame: tokens ``before`` and ``after`` every prompt and at the ``end`` of every
    response. ``symbols`` are distinct names of all tokens, the frame's too; ``unknown`` is that of whatever else there
    may be; ``key`` names the content for the cache. A checkpoint's has a ``digest``; ``known`` is what another has
    learned."""

    key: list[str]
    symbols: tuple[str, ...]
    known: list[str]
    digest: str = ""
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    end: int | None = None
    unknown: int | None = None

    @abstractmethod
    def encode(self, texts: list[str]) -> tuple[Array, Rows]:
        """Cuts texts into tokens, which lie one after the other; [texts] how many each has."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Writes tokens as text; those that stand for none are left out."""

    @abstractmethod
    def for_library(self, vocab: Vocabulary, ids: Sequence[int]) -> PreTrainedTokenizerBase:
        """The transformers library's tokenizer that cuts text as this one does, for a model whose tokens ``ids`` are
        the symbols of ``vocab``. Raises ``RequestError`` where it has none."""

    def frame(self, flat: Array, lengths: Rows) -> tuple[Array, Rows]:
        """Frames the texts that lie one after the other, prompt, response, prompt, ..., of ``lengths`` [rows, 2]."""
        middles, ends = numpy.cumsum(lengths).reshape(-1, 2).T
        # In this order, since one row's end is where the next begins.
        parts = [] if self.end is None else [(ends, self.end)]
        parts += [(ends - lengths.sum(1), token) for token in self.before]
        parts += [(middles, token) for token in self.after]
        places = numpy.concatenate([middles[:0], *(places for places, _ in parts)])
        added = numpy.array([len(self.before) + len(self.after), self.end is not None])
        return numpy.insert(flat, places, numpy.repeat([token for _, token in parts], len(lengths))), lengths + added


class PieceTokenizer(Tokenizer):
    """Pieces of text: characters, words and marks (``word_pattern``) which are written with single spaces, or the bytes
    of its UTF-8. The last character or word stands for every other. After the pieces come the frame's two symbols."""

    def __init__(self, request: Request, known: list[str]) -> None:
        """``known``: the characters or words of the vocabulary."""
        self.kind, self.known = request.tokenizer, known
        pieces = [*known, UNKNOWN]
        if self.kind == "bytes":
            pieces = [chr(byte) if 33 <= byte < 127 else f"<0x{byte:02X}>" for byte in range(256)]
        self.key = [self.kind, key_of(pieces)]
        self.symbols = (*pieces, "<response>", "<end>")
        self.after = () if request.boundary == "none" else (len(pieces),)
        self.end = len(pieces) + 1 if request.ending == "symbol" else None
        self.unknown = None if self.kind == "bytes" else len(pieces) - 1
        self._token_of = {piece: token for token, piece in enumerate(pieces[:-1])}
        self._unknown = len(pieces) - 1

    @cached_property
    def _token_of_code(self) -> Array:
        """[every character] its token."""
        found = numpy.full(0x110000, self._unknown, numpy.uint32)
        found[list(map(ord, self._token_of))] = numpy.arange(self._unknown)
        return found

    def encode(self, texts: list[str]) -> tuple[Array, Rows]:
        if self.kind == "words":
            find = self._token_of.get
            return _flatten([[find(word, self._unknown) for word in word_pattern().findall(text)] for text in texts])
        if self.kind == "characters":
            codes = numpy.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
            return self._token_of_code[codes], _count(texts)
        raw = [text.encode() for text in texts]
        return numpy.frombuffer(b"".join(raw), numpy.uint8), _count(raw)

    def decode(self, tokens: Sequence[int]) -> str:
        known = [token for token in tokens if 0 <= token <= self._unknown]
        if self.kind == "bytes":
            return bytes(known).decode(errors="replace")
        if self.kind == "words":
            return " ".join(self.symbols[token] for token in known)
        return "".join(REPLACEMENT if token == self._unknown else self.symbols[token] for token in known)

    def for_library(self, vocab: Vocabulary, ids: Sequence[int]) -> PreTrainedTokenizerBase:
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        names, one = list(vocab), pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        cut: Any = one
        decoder: Any = decoders.Fuse()
        if self.kind == "words":  # its \w is not Python's
            word = word_pattern().pattern.replace("[^\\w", rf"[^{LETTERS}").replace("[\\w", f"[{LETTERS}")
            cut = pre_tokenizers.Split(Regex(word.replace("\\w", f"[{LETTERS}]")), "removed", invert=True)
            decoder = None  # which writes a space between any two
        elif self.kind == "bytes":
            whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            cut, decoder = pre_tokenizers.Sequence([whole, one]), decoders.ByteLevel()
            # The letters of bytes that are no letter follow those that stand for themselves, in the order of the bytes.
            letters = sorted(whole.alphabet())
            own = {ord(letter): letter for letter in letters if ord(letter) < 256}
            others = iter(letters[len(own) :])
            names[:256] = [own.get(byte) or next(others) for byte in range(256)]
        made = Tokenizer(models.WordLevel(dict(zip(names, ids, strict=True)), unk_token=UNKNOWN))
        made.pre_tokenizer, made.decoder = cut, decoder
        made.add_special_tokens([AddedToken(symbol, normalized=False) for symbol in self.symbols[-2:]])
        wrap: Any = PreTrainedTokenizerFast
        ends = {} if self.end is None else dict.fromkeys(("eos_token", "pad_token"), self.symbols[self.end])
        found: PreTrainedTokenizerBase = wrap(tokenizer_object=made, clean_up_tokenization_spaces=False, **ends)
        return found


def _count(rows: Sequence[Sized]) -> Rows:
    return numpy.fromiter(map(len, rows), numpy.int64, len(rows))


def _flatten(rows: list[list[int]]) -> tuple[Array, Rows]:
    lengths = _count(rows)
    return numpy.fromiter(chain.from_iterable(rows), numpy.uint32, int(lengths.sum())), lengths


def learn_pieces(request: Request, files: list[Path]) -> list[str]:
    """Learns the most frequent pieces of all texts: words, the most frequent first, or characters, as Unicode numbers
    them. Raises ``RequestError`` on a file or, unless bad rows are skipped, a row that cannot be read.

    At most ``MOST_COUNTED`` different ones are counted at a time: when there are more, the rarer half of them is
    forgotten, so that a text of ever new words does not fill the memory. A word that stays rare for long may then be
    missing from a vocabulary of nearly that size.
    """
    words = request.tokenizer == "words"
    counts: Counter[str] = Counter()

    def most_frequent(n: int) -> list[str]:
        return sorted(counts, key=lambda piece: (-counts[piece], piece))[:n]

    for row in read_rows(files, request.fields):
        if not isinstance(row, BadRow):
            counts.update(
                word_pattern().findall(f"{row.prompt}\n{row.response}") if words else row.prompt + row.response
            )
        elif not request.skip_bad:
            raise refuse(files, row)
        if len(counts) > MOST_COUNTED:
            counts = Counter({piece: counts[piece] for piece in most_frequent(MOST_COUNTED // 2)})
    counts.pop(UNKNOWN if words else REPLACEMENT, None)
    kept = most_frequent(request.vocabulary)
    return kept if words else sorted(kept)


class CheckpointTokenizer(Tokenizer):
    """The tokenizer of a checkpoint, in a folder or under a hub id, with the checkpoint's numbers. Texts are cut
    without the tokens that it adds around them, of which ``before`` are those that it puts first."""

    def __init__(self, request: Request) -> None:
        """Raises ``RequestError`` where there is no tokenizer, where it does not say which token ends a text, and on a
        boundary that it cannot write."""
        path = self.path = request.checkpoint or ""
        folder = checkpoint_folder(path)
        self.digest, self.known = tokenizer_digest(folder), []
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

    def encode(self, texts: list[str]) -> tuple[Array, Rows]:
        # verbose=False: it would warn of texts longer than the model reads, which is said where the model is known.
        cut = self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        return _flatten(cut)

    def decode(self, tokens: Sequence[int]) -> str:
        known = [token for token in tokens if 0 <= token < len(self.symbols)]
        text: str = self._tokenizer.decode(known, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def for_library(self, vocab: Vocabulary, ids: Sequence[int]) -> PreTrainedTokenizerBase:
        numbers = vocab.checkpoint.ids if vocab.checkpoint else ()
        if tuple(ids[: len(numbers)]) != numbers:
            raise RequestError(
                f"the model has {len(numbers):,} tokens of its own numbering, and the tokenizer of {self.path} writes "
                f"its own {len(self.symbols):,}; train on --backbone hf:{self.path}, or with tokens=all, for an export"
            )
        found: PreTrainedTokenizerBase = load_tokenizer(checkpoint_folder(self.path), self.path)
        return found


def choose_tokenizer(request: Request, files: list[Path]) -> Tokenizer:
    """Makes the tokenizer that is asked for, with characters or words learned from the files, once for each content.
    Raises ``RequestError`` where it cannot be had, and as ``learn_pieces`` does."""
    if request.checkpoint:
        return CheckpointTokenizer(request)
    if request.tokenizer == "bytes":
        return PieceTokenizer(request, [])
    key = key_of("vocabulary", 2, digest_of(files), request.fields, request.tokenizer, request.vocabulary)
    _, found = load_or_build("vocabularies", key, lambda _: {"known": learn_pieces(request, files)})
    return PieceTokenizer(request, found["known"])
