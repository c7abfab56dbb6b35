"""Seed-conditioning, an option of every task that draws its examples: a random string in front of each prompt.

Nagarajan et al. 2025 ("Roll the dice", arXiv 2504.15266): what varies between greedy answers is the string, not noise
at the output. Deviation: on triangle discovery the paper gives no string to the facts about edges; here every row has
one.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.tasks.base import Lure, Task, WrongTurn, tasks
from foresee.tasks.data import Data

ALPHABET = string.ascii_lowercase + string.digits


@tasks.wrap
@dataclass(frozen=True)
class Conditioned(Task):
    """``inner`` with ``seed_length`` symbols before every prompt, each one of ``seed_symbols`` of its own, all equally
    likely: ``[a]``, ``[b]``, ..., after those of the inner task; the text form is the inner one after ``[k3x9]``.

    Everything else is the inner task's: identity (so the split), facts, answers. Rows of a group have different seeds,
    so they share no prefix. A user's own rows are read, not drawn, and get no seed.
    """

    summary: ClassVar[str] = "a random string before each prompt of a task (seed-conditioning)"

    inner: Task
    _: KW_ONLY
    seed_length: int = 0
    seed_symbols: int = 36

    def __post_init__(self) -> None:
        if self.seed_length < 1:
            raise RequestError(f"seed_length={self.seed_length} must be at least 1, or 0 alone for no seed at all")
        if isinstance(self.inner, Data):
            raise RequestError(
                "seed_length is an option of tasks that draw their examples, not of rows that are stored"
            )
        if not 1 <= self.seed_symbols <= len(ALPHABET):
            raise RequestError(f"seed_symbols={self.seed_symbols} must be from 1 to {len(ALPHABET)}")
        inner = self.inner
        own = tuple(f"[{letter}]" for letter in ALPHABET[: self.seed_symbols])
        self.declare(
            vocab=inner.vocab.extended(own), chance=inner.chance, plateau=inner.plateau,
            prompt_length=self.seed_length + inner.prompt_length, answer_length=inner.answer_length,
        )  # fmt: skip
        vars(self).update(end=inner.end, unknown=inner.unknown, open_ended=inner.open_ended, group=inner.group)
        vars(self).update(branch_chance=inner.branch_chance)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        batch = self.inner.sample(n, rng)
        drawn = rng.integers(len(self.inner.vocab), len(self.vocab), (n, self.seed_length), dtype=numpy.int64)
        tokens = torch.cat([torch.from_numpy(drawn), batch.tokens], 1)
        return self._moved(batch, tokens, self.seed_length)

    def _moved(self, batch: Batch, tokens: Tensor, columns: int) -> Batch:
        """The batch with these tokens, its answers ``columns`` further to the right."""
        layout = replace(batch.layout, first=batch.layout.first + columns, last=batch.layout.last + columns)
        layout = replace(layout, group=1, shared=0)
        return Batch(tokens, batch.prompt_len + columns, batch.answer_len, layout, batch.facts)

    def unseeded(self, batch: Batch) -> Batch:
        """The batch as the inner task knows it, without the seeds."""
        return self._moved(batch, batch.tokens[:, self.seed_length :], -self.seed_length)

    def _asked(self, prompt: Sequence[int]) -> Sequence[int]:
        """The inner prompt. Raises ``RequestError`` where the seed is missing."""
        first, last = len(self.inner.vocab), len(self.vocab)
        seed = prompt[: self.seed_length]
        if len(seed) < self.seed_length or not all(first <= token < last for token in seed):
            raise RequestError(f"the prompt does not begin with the {self.seed_length} symbols of a seed")
        return prompt[self.seed_length :]

    def solve(self, prompt: Sequence[int]) -> list[int]:
        return self.inner.solve(self._asked(prompt))

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        return self.inner.answer_length_of(self._asked(prompt))

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        return self.inner.verify(self._asked(prompt), answer)

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        return self.inner.fault(self._asked(prompt), answer)

    def identity(self, batch: Batch) -> Fingerprints:
        return self.inner.identity(self.unseeded(batch))

    def held_out(self, batch: Batch) -> NDArray[numpy.bool_]:
        return self.inner.held_out(self.unseeded(batch))

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        letters = "".join(symbol[1:-1] for symbol in self.vocab.decode(prompt[: self.seed_length]))
        return f"[{letters}]" + self.inner.write_line(prompt[self.seed_length :], answer)

    def write_answer(self, answer: Sequence[int]) -> str:
        return self.inner.write_answer(answer)

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        seed, rest = self._read_seed(line)
        prompt, answer = self.inner.read_line(rest)
        return seed + prompt, answer

    def read_tokens(self, line: str) -> tuple[list[int], list[int]]:
        seed, rest = self._read_seed(line)
        prompt, answer = self.inner.read_tokens(rest)
        return seed + prompt, answer

    def _read_seed(self, line: str) -> tuple[list[int], str]:
        """The tokens of a line's seed, and the inner line."""
        letters = ALPHABET[: self.seed_symbols]
        match = re.match(rf"\[([{letters}]{{{self.seed_length}}})\]", line.lstrip())
        if match is None:
            seed = f"a seed of {self.seed_length} symbols in brackets, each one of {letters}"
            raise RequestError(f"the line does not begin with {seed}")
        return self.vocab.encode(f"[{letter}]" for letter in match[1]), line.lstrip()[match.end() :]

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return self.inner.facts_of(self.unseeded(batch))

    @property
    def hops(self) -> int | None:
        return self.inner.hops

    def implied(self, batch: Batch, decisions: Tensor) -> Tensor | None:
        return self.inner.implied(self.unseeded(batch), decisions)

    def lure(self, batch: Batch, rng: torch.Generator) -> Lure | None:
        found = self.inner.lure(self.unseeded(batch), rng)
        if found is None:
            return None
        seeds = batch.tokens[:, : self.seed_length]
        edits = (found.critical, found.safe)
        return Lure(*(self._moved(edit, torch.cat([seeds, edit.tokens], 1), self.seed_length) for edit in edits))

    def wrong_turn(self, batch: Batch, rng: torch.Generator) -> WrongTurn | None:
        return self.inner.wrong_turn(self.unseeded(batch), rng)
