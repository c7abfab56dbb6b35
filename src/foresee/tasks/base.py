"""What a task is: a frozen configuration that makes prompts and answers, and checks them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy
from torch import Tensor

from foresee.batch import Batch
from foresee.registry import Registry
from foresee.vocabulary import Vocabulary


class Task(ABC):
    """Prompts with answers over a vocabulary. Implementations are frozen dataclasses whose fields are their options."""

    summary: ClassVar[str]
    """One line for ``foresee list``."""

    @property
    @abstractmethod
    def vocab(self) -> Vocabulary:
        """Every symbol that prompts and answers may hold."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """``exact`` of a solver that knows everything but the decision and guesses that uniformly."""

    @property
    @abstractmethod
    def prompt_length(self) -> int:
        """Longest prompt, in tokens."""

    @property
    @abstractmethod
    def answer_length(self) -> int:
        """Longest answer, in tokens."""

    @property
    def plateau(self) -> float | None:
        """Forced loss per answer token of a perfect shortcut with a blind decision (nats), where that is defined."""
        return None

    @property
    def group(self) -> int:
        """How many consecutive rows of ``sample`` belong together: they share one identity and stay side by side in
        every batch."""
        return 1

    @property
    def shared_prefix(self) -> int:
        """How many first columns are the same in all rows of a group; training then reads them once a group."""
        return 0

    @abstractmethod
    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        """``n`` examples from this stream, drawn by array operations, with their ``facts``."""

    @abstractmethod
    def solve(self, prompt: Sequence[int]) -> list[int]:
        """An answer worked out from the prompt's tokens alone; shares no code with ``sample``."""

    @abstractmethod
    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        """Whether ``answer`` is right for ``prompt``."""

    @abstractmethod
    def identity(self, batch: Batch) -> numpy.ndarray:
        """[B] uint64: a fingerprint of the problem behind each row. Rows with one fingerprint always fall in the same
        split, so that the test set shares no problem with the training set."""

    @abstractmethod
    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """One example in the task's text form, without a line end."""

    def write_answer(self, answer: Sequence[int]) -> str:
        """An answer alone in text form, whatever tokens it holds."""
        return ",".join(self.vocab.decode(answer))

    @abstractmethod
    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        """Prompt and answer tokens of a line in the task's text form. The answer is empty where the line ends after
        the prompt. Raises ``RequestError`` with the reason, which names neither file nor line."""

    @abstractmethod
    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        """The facts that ``sample`` would have given for these rows, worked out from tokens alone (may be slow)."""


tasks: Registry[Task] = Registry("task", "foresee.tasks")
