"""A task in one file: the parities of all prefixes of a string of bits, longest prefix first.

    foresee compare running-parity:bits=12 --objectives next-token,teacherless --plugin examples/running_parity.py

The prompt is ``b1 ... bk =``; the answer is the parity of all ``k`` bits, then of the first ``k - 1``, down to the
first bit. Given one parity, the next is one bit away, which is a shortcut; the first has no such help. So it is
path-star's situation without a graph: one decision at the start, and everything after it a look-up. Written backwards
it is easy from the first token on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy
import torch
from torch import Tensor

from foresee.core.batch import NOTHING, Batch
from foresee.core.bounds import Bounds
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import Task, TextForm, WrongTurn, tasks

VOCABULARY = Vocabulary(("0", "1", "="))
EQUALS = VOCABULARY.token("=")


@tasks.register("running-parity")
@dataclass(frozen=True, kw_only=True)
class RunningParity(Task):
    """``bits`` fair bits, 2 to 60. Facts: ``branch`` [B], the place of the decision in the answer, always 0."""

    summary: ClassVar[str] = "parities of the prefixes of a string of bits, longest prefix first"
    text = TextForm("0110=0010", separator="", noun="bit")

    bits: Annotated[int, Bounds(2, 60)]

    def __post_init__(self) -> None:
        super().__post_init__()
        # The decision is the first parity, guessed: one coin toss, shared among all tokens of the answer.
        self.declare(
            vocab=VOCABULARY, chance=0.5, plateau=math.log(2) / self.bits,
            prompt_length=self.bits + 1, answer_length=self.bits,
        )  # fmt: skip

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        """``n`` rows of fair bits."""
        bits = rng.integers(0, 2, size=(n, self.bits))
        parities = (bits.cumsum(axis=1) % 2)[:, ::-1]
        tokens = numpy.concatenate([bits, numpy.full((n, 1), EQUALS), parities], axis=1)
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.bits, self._facts(n))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The answer, one bit at a time. Raises ``RequestError`` on a prompt of another form."""
        *bits, equals = prompt
        if len(bits) != self.bits or equals != EQUALS or not set(bits) <= {0, 1}:
            raise RequestError(f"running-parity: a prompt is {self.bits} bits and '=', not {VOCABULARY.decode(prompt)}")
        parity, answer = 0, []
        for bit in bits:
            parity ^= bit
            answer.append(parity)
        return answer[::-1]

    def identity(self, batch: Batch) -> numpy.ndarray:
        """[B] uint64: the bits read as a number."""
        bits = batch.tokens[:, : self.bits].cpu().numpy().astype(numpy.uint64)
        weights = numpy.uint64(1) << numpy.arange(self.bits, dtype=numpy.uint64)
        return numpy.asarray((bits * weights).sum(axis=1, dtype=numpy.uint64))

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        """The decision is always at the start."""
        return self._facts(len(batch))

    @property
    def hops(self) -> int:
        """A parity needs no chain of look-ups: one layer can add all bits up."""
        return 1

    def implied(self, batch: Batch, decisions: Tensor) -> Tensor:
        """[B] first parities -> [B, bits]: the answers that follow, each parity one bit from the one before it."""
        flipped = decisions != batch.answers[:, 0]
        return (batch.answers ^ flipped[:, None].long()).masked_fill((decisions > 1)[:, None], NOTHING)

    def wrong_turn(self, batch: Batch, rng: torch.Generator) -> WrongTurn:
        """Every row begun with the other parity."""
        rows = torch.arange(len(batch), device=batch.tokens.device)
        return WrongTurn(rows, batch.facts["branch"], 1 - batch.answers)

    def _facts(self, n: int) -> dict[str, Tensor]:
        return {"branch": torch.zeros(n, dtype=torch.int64)}
