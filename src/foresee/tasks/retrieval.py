"""Retrieval: a dictionary learned by heart in one direction, and asked for in the other (the reversal curse).

Kitouni et al. 2024 ("The Factorization Curse", arXiv 2406.05183); docs/tasks.md says what it can show here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.base import Bounds, Task, tasks
from foresee.tasks.text import TextForm

Direction = Literal["backward", "forward"]


@tasks.register("retrieval")
@dataclass(frozen=True, kw_only=True)
class Retrieval(Task):
    """``pairs`` different keys and as many different values, of ``key_length`` and ``value_length`` symbols each, keys
    from k0, k1, ... and values from v0, v1, ... (``symbols`` each), so that no answer shares a symbol with its prompt.

    Forwards a line is ``>k3,k1=v2,v2``, backwards ``<v2,v2=k3,k1``. Training has all pairs in the one direction, and in
    the ``asked`` one the share ``both_ways`` of them; the test split has the rest of those. ``dictionary`` numbers the
    dictionary. ``branch`` is the answer's first token: nothing in the prompt says it, so all is decided there.
    """

    summary: ClassVar[str] = (
        "a dictionary learned by heart in one direction and asked for in the other (reversal curse)"
    )
    text = TextForm(">KEY=VALUE or <VALUE=KEY, symbols joined by commas", marks=(">", "<", "="))

    pairs: Annotated[int, Bounds(2)]
    symbols: Annotated[int, Bounds(1)] = 10
    key_length: Annotated[int, Bounds(1)] = 4
    value_length: Annotated[int, Bounds(1)] = 4
    both_ways: float = 0.5
    asked: Direction = "backward"
    dictionary: Annotated[int, Bounds(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("key_length", "value_length"):
            strings = self.symbols ** getattr(self, name)
            if strings < self.pairs:
                given = f"symbols={self.symbols},{name}={getattr(self, name)} make {strings} strings"
                raise RequestError(f"retrieval: {given}, but pairs={self.pairs} needs as many")
        if not 0 <= self.both_ways < 1 or self._known == self.pairs:
            raise RequestError(
                f"retrieval: both_ways={self.both_ways} must be from 0 to below 1, with one pair left to ask for"
            )
        numbers = range(self.symbols)
        vocab = Vocabulary((*(f"k{n}" for n in numbers), *(f"v{n}" for n in numbers), ">", "<", "="))
        longest = max(self.key_length, self.value_length)
        self.declare(vocab=vocab, chance=1 / self.pairs, prompt_length=2 + longest, answer_length=longest)

    @cached_property
    def branch_chance(self) -> float:
        return 1 / self.symbols

    @property
    def _known(self) -> int:
        """Pairs trained in both directions: the first so many."""
        return round(self.both_ways * self.pairs)

    @cached_property
    def keys(self) -> NDArray[numpy.int64]:
        """[pairs, key_length] tokens."""
        return self._strings("keys", self.key_length)

    @cached_property
    def values(self) -> NDArray[numpy.int64]:
        """[pairs, value_length] tokens."""
        return self._strings("values", self.value_length) + self.symbols

    def _strings(self, which: str, length: int) -> NDArray[numpy.int64]:
        """Different random strings."""
        rng = seeds.stream("retrieval", which, self.pairs, self.symbols, length, self.dictionary)
        strings: dict[tuple[int, ...], None] = {}
        if self.symbols**length <= 2 * self.pairs:
            numbers = rng.permutation(self.symbols**length)[: self.pairs]
            return numpy.asarray(numbers[:, None] // self.symbols ** numpy.arange(length) % self.symbols)
        while len(strings) < self.pairs:
            drawn = rng.integers(self.symbols, size=(self.pairs, length))
            strings |= dict.fromkeys(map(tuple, drawn.tolist()))
        return numpy.array(list(strings)[: self.pairs])

    @cached_property
    def _answers(self) -> dict[tuple[int, ...], list[int]]:
        """The answer to every prompt."""
        right, left, equals = self.vocab.encode("><=")
        pairs = list(zip(self.keys.tolist(), self.values.tolist(), strict=True))
        return {(right, *key, equals): value for key, value in pairs} | {
            (left, *value, equals): key for key, value in pairs
        }

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        pair = rng.integers(self.pairs, size=n)
        backward = rng.random(n) < 0.5
        right, left, equals = self.vocab.encode("><=")
        tokens = numpy.full((n, 2 + self.key_length + self.value_length), equals, numpy.int64)
        tokens[:, 0] = numpy.where(backward, left, right)
        for rows, asked, answer in ((~backward, self.keys, self.values), (backward, self.values, self.keys)):
            tokens[rows, 1 : 1 + asked.shape[1]] = asked[pair[rows]]
            tokens[rows, 2 + asked.shape[1] :] = answer[pair[rows]]
        key_len, value_len = torch.tensor(self.key_length), torch.tensor(self.value_length)
        asks_key = torch.from_numpy(backward)
        prompt_len = 2 + torch.where(asks_key, value_len, key_len)
        bare = Batch.of(torch.from_numpy(tokens), prompt_len, torch.where(asks_key, key_len, value_len))
        return replace(bare, facts=self.facts_of(bare))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """Looked up."""
        found = self._answers.get(tuple(int(token) for token in prompt))
        if found is None:
            raise RequestError("retrieval: the prompt asks for nothing that is in the dictionary")
        return list(found)

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        return self.value_length if prompt[0] == self.vocab.token(">") else self.key_length

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: a fingerprint of prompt and answer."""
        return fingerprint(batch.tokens[:, : 2 + self.key_length + self.value_length].cpu().numpy())

    def held_out(self, batch: Batch) -> NDArray[numpy.bool_]:
        """[B]: the asked direction of all but the first pairs."""
        words = self.values if self.asked == "backward" else self.keys
        marker = self.vocab.token("<" if self.asked == "backward" else ">")
        tokens = batch.tokens.cpu().numpy()
        rest = fingerprint(words[self._known :])
        asked = fingerprint(tokens[:, 1 : 1 + words.shape[1]])
        return numpy.asarray((tokens[:, 0] == marker) & numpy.isin(asked, rest))

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return {"branch": torch.zeros(len(batch), dtype=torch.int64)}


tasks.preset("retrieval-mini", "retrieval:pairs=200")
