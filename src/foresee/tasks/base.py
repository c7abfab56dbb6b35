"""What a task is: a frozen configuration that makes prompts and answers, and checks them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.fingerprints import one_in_eight
from foresee.core.registry import Registry
from foresee.core.vocabulary import Vocabulary


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
    def end(self) -> int | None:
        """The token that closes every answer, as its last, and appears nowhere else in one; None where answers have
        no such token. With one, a model writes up to ``answer_length`` tokens and stops there; without one, it is told
        ``answer_length_of`` its prompt."""
        return None

    @property
    def plateau(self) -> float | None:
        """Forced loss per answer token of a perfect shortcut with a blind decision (nats), where that is defined."""
        return None

    @property
    def open_ended(self) -> bool:
        """Whether what is asked is to invent: the examples of the test split share one prompt, and any answer of a
        large set is right. ``identity`` is then that of the answer, up to what makes no difference."""
        return False

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

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        """How many tokens the answer to a prompt holds, at most ``answer_length``. A task without an ``end`` whose
        answers differ in length must work it out from the prompt; it may raise ``RequestError`` on a prompt that is
        not its own."""
        return self.answer_length

    @abstractmethod
    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        """Whether ``answer`` is right for ``prompt``."""

    @abstractmethod
    def identity(self, batch: Batch) -> numpy.ndarray:
        """[B] uint64: a fingerprint of the problem behind each row. Rows with one fingerprint always fall in the same
        split, so that the test set shares no problem with the training set."""

    def held_out(self, batch: Batch) -> NDArray[numpy.bool_]:
        """[B] bool: which rows belong to the test split. One problem in eight, by a hash of its identity, unless the
        task says otherwise: one whose answers rest on facts that have to be learned trains on all of these. Rows of one
        identity have one answer."""
        return one_in_eight(self.identity(batch))

    @abstractmethod
    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """One example in the task's text form, without a line end."""

    def write_prompt(self, prompt: Sequence[int]) -> str:
        """A prompt alone, for people to read."""
        return self.write_line(prompt, [])

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

    @staticmethod
    def content_digest(options: Mapping[str, Any]) -> str:
        """16 hexadecimal characters of the files that its options name, so that a run on another content is another
        run; empty where it reads none."""
        return ""


tasks: Registry[Task] = Registry("task", "foresee.tasks")
