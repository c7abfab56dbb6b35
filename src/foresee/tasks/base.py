"""What a task is: a frozen configuration that makes prompts and answers, and checks them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.bounds import Bounds as Bounds
from foresee.core.bounds import find_fault
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint, mix, one_in_eight
from foresee.core.registry import Registry
from foresee.core.spec import resolve
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.text import TextForm, difference


@dataclass(frozen=True)
class WrongTurn:
    """Answers that take the decision wrongly, for those rows of a batch that have a wrong way to go."""

    rows: Tensor
    """[K] int64: their numbers in the batch."""
    place: Tensor
    """[K] int64: where in the answer the decision stands."""
    answers: Tensor
    """[K, A] int64: the right tokens before it, the wrong decision, and what follows from that; ``NOTHING`` after."""


@dataclass(frozen=True)
class Lure:
    """Two edits of the same prompts, alike to the eye, of which one changes the right decision. Rows are those of the
    batch, answers the right ones after the edit."""

    critical: Batch
    safe: Batch


class Task(ABC):
    """Prompts with answers over a vocabulary. Implementations are frozen dataclasses whose fields are their options.

    A task says its ``vocab``, ``chance`` and lengths (in ``__post_init__``, by ``declare``; constants may be class
    attributes) and its ``text``, and how to ``sample`` and ``solve``. The rest has defaults: for a task whose every
    prompt has one right answer, without facts.
    """

    summary: ClassVar[str]
    """One line for ``foresee list``."""

    control: ClassVar[str] = ""
    """The task, of the same options, whose reversed training is the positive control of this one: for answers of one
    token, which read the same backwards. Empty where it is this task."""

    @cached_property
    def vocab(self) -> Vocabulary:
        """Every symbol that prompts and answers may hold."""
        raise self._undeclared()

    @cached_property
    def chance(self) -> float:
        """``exact`` of a solver that knows everything but the decision and guesses that uniformly; where several
        answers are right it may be that of guessing one of them, which is less."""
        raise self._undeclared()

    @cached_property
    def branch_chance(self) -> float:
        """How often a uniform guess takes the decision rightly (the fact ``branch``): ``chance``, unless whole answers
        take more than that."""
        return self.chance

    @cached_property
    def prompt_length(self) -> int:
        """Longest prompt, in tokens."""
        raise self._undeclared()

    @cached_property
    def answer_length(self) -> int:
        """Longest answer, in tokens."""
        raise self._undeclared()

    @cached_property
    def text(self) -> TextForm:
        """How examples are written as lines. A task usually replaces this by one line, ``text = TextForm(...)``."""
        return TextForm()

    @cached_property
    def plateau(self) -> float | None:
        """Forced loss per answer token of a perfect shortcut with a blind decision (nats), where that is defined."""
        return None

    @cached_property
    def open_ended(self) -> bool:
        """Whether what is asked is to invent: test examples share one prompt, and any answer of a large set is
        right."""
        return False

    @cached_property
    def end(self) -> int | None:
        """The token that closes every answer, as its last, and appears nowhere else in one; None where answers have
        no such token. With one, a model writes up to ``answer_length`` tokens and stops there; without one, it is told
        ``answer_length_of`` its prompt."""
        return None

    @cached_property
    def unknown(self) -> int | None:
        """The token that stands for whatever the vocabulary lacks, where there is one. An answer that holds it is never
        right: nobody can tell what it stands for."""
        return None

    @cached_property
    def group(self) -> int:
        """How many consecutive rows of ``sample`` belong together: they share one identity and stay side by side in
        every batch."""
        return 1

    @cached_property
    def shared_prefix(self) -> int:
        """How many first columns are the same in all rows of a group; training then reads them once a group."""
        return 0

    def __post_init__(self) -> None:
        """Raises ``RequestError`` where an option is out of its bounds or none of its choices."""
        if (fault := find_fault(type(self), vars(self))) is not None:
            raise RequestError(f"{tasks.name_of(type(self))}: {fault}")

    def declare(
        self, *, vocab: Vocabulary, chance: float, prompt_length: int, answer_length: int, plateau: float | None = None
    ) -> None:
        """Sets these properties of a frozen task; for use in ``__post_init__``. Raises ``RequestError`` where one of
        them cannot be."""
        if not isinstance(vocab, Vocabulary):
            raise RequestError(f"{type(self).__name__}: vocab must be a Vocabulary, not a {type(vocab).__name__}")
        if not 0 <= chance <= 1:
            raise RequestError(f"{type(self).__name__}: chance={chance} must be a share from 0 to 1")
        vars(self).update(vocab=vocab, chance=chance, prompt_length=prompt_length)
        vars(self).update(answer_length=answer_length, plateau=plateau)

    def _undeclared(self) -> RequestError:
        return RequestError(
            f"{type(self).__name__} does not say its vocab, chance, prompt_length and answer_length; in __post_init__ "
            "call self.declare(...)"
        )

    @abstractmethod
    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        """``n`` examples from this stream, drawn by array operations, with their ``facts``."""

    @abstractmethod
    def solve(self, prompt: Sequence[int]) -> list[int]:
        """An answer worked out from the prompt's tokens alone; shares no code with ``sample``. Raises ``RequestError``
        on a prompt that is none of the task's."""

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        """Whether ``answer``, whatever tokens it holds, is right for ``prompt``."""
        return self.fault(prompt, answer) is None

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        """Why an answer is wrong, for people; None where it is right: where it is that of ``solve``, unless the task
        says otherwise."""
        right = [int(token) for token in self.solve(prompt)]
        if [int(token) for token in answer] == right:
            return None
        return difference(self.vocab.decode(answer), self.vocab.decode(right), "a right answer")

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        """How many tokens the answer to a prompt holds, at most ``answer_length``. A task without an ``end`` whose
        answers differ in length must work it out from the prompt; it may raise ``RequestError`` on a prompt that is
        not its own."""
        return self.answer_length

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: a fingerprint of the problem behind each row: its prompt, or its answer where the task is
        ``open_ended``, unless the task says otherwise. Rows with one fingerprint always fall in the same split, so that
        the test set shares no problem with the training set."""
        found = numpy.empty(len(batch), numpy.uint64)
        for rows, part in batch.uniform_parts():
            found[rows.cpu().numpy()] = fingerprint((part.answers if self.open_ended else part.prompts).cpu().numpy())
        return found

    def held_out(self, batch: Batch) -> NDArray[numpy.bool_]:
        """[B] bool: which rows belong to the test split. One problem in eight, by a hash of its identity, unless the
        task says otherwise: one whose answers rest on facts that have to be learned trains on all of these. Rows of one
        identity have one answer."""
        return one_in_eight(self.identity(batch))

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        """The facts of these rows, worked out from tokens alone (may be slow); ``sample`` may have listed what has no
        order of its own, such as the arms of a graph, in another order."""
        return {}

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """One example in the task's text form, without a line end."""
        return self.text.write_prompt(self.vocab.decode(prompt)) + self.write_answer(answer)

    def write_prompt(self, prompt: Sequence[int]) -> str:
        """A prompt alone, for people to read."""
        return self.write_line(prompt, [])

    def write_answer(self, answer: Sequence[int]) -> str:
        """An answer alone in text form, whatever tokens it holds."""
        return self.text.write_answer(self.vocab.decode(answer))

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        """Prompt and answer tokens of a line in the task's text form. The answer is empty where the line ends after
        the prompt. Raises ``RequestError`` with the reason, which names neither file nor line."""
        prompt, answer = self.read_tokens(line)
        self.check_prompt(prompt)
        if answer and not self.verify(prompt, answer):
            raise RequestError(self.fault(prompt, answer) or "the answer is wrong")
        return prompt, answer

    def read_tokens(self, line: str) -> tuple[list[int], list[int]]:
        """Prompt and answer tokens of a line, before they are checked."""
        return self.text.read(line, self.vocab)

    def check_prompt(self, prompt: Sequence[int]) -> None:
        """Raises ``RequestError`` with the reason where tokens are no prompt of the task. Where ``solve`` is slow, or
        takes more than ``sample`` draws, the task has a check of its own."""
        self.solve(prompt)

    @property
    def hops(self) -> int | None:
        """Steps of look-up, one after the other, that the decision needs; None where there is no such number."""
        return None

    def implied(self, batch: Batch, decisions: Tensor) -> Tensor | None:
        """[B] tokens at the place of the decision (the fact ``branch``) -> [B, A]: the answer that each implies, with
        ``NOTHING`` after its end and for rows where it implies none. None where what follows from a decision is not
        determined."""
        return None

    def wrong_turn(self, batch: Batch, rng: torch.Generator) -> WrongTurn | None:
        """Answers begun with a wrong decision, drawn uniformly; None where there is no decision, or what follows from
        one is not determined."""
        return None

    def lure(self, batch: Batch, rng: torch.Generator) -> Lure | None:
        """Matched edits of the prompts of a batch; None where the task has none."""
        return None

    @staticmethod
    def content_digest(options: Mapping[str, Any]) -> str:
        """16 hexadecimal characters of the files that its options name, so that a run on another content is another
        run; empty where it reads none."""
        return ""


tasks: Registry[Task] = Registry("task", "foresee.tasks", Task)

Labels = Literal["numbers", "words"]
"""What a checkpoint reads where a label stands in the text: its number, or a word of the checkpoint's own tokenizer
(``foresee.backbones.hf.symbols``), for tokenizers that split numbers."""


def require_option(task: Task, name: str, least: float, most: float = math.inf) -> None:
    """Raises ``RequestError`` unless an option of a registered task lies within a range that hangs on other options."""
    if (fault := Bounds(least, most).fault(name, getattr(task, name))) is not None:
        raise RequestError(f"{tasks.name_of(type(task))}: {fault}")


def control_task(task: str) -> str:
    """The canonical spec of the task whose reversed training vouches for this one, given by its own (``Task.control``);
    the same where a plug-in's task is not loaded."""
    name, _, options = task.partition(":")
    if name not in tasks.names() or not (control := tasks.get(name).control):
        return task
    return resolve(tasks, f"{control}:{options}").text


def label_vocabulary(labels: Labels, count: int, *marks: str) -> Vocabulary:
    """The labels 0 .. count - 1 as symbols, then the marks."""
    return Vocabulary((*map(str, range(count)), *marks), words=count if labels == "words" else 0)


def fingerprint_set(values: NDArray[Any]) -> Fingerprints:
    """[..., K] numbers from 0 up, or fingerprints -> [...] uint64 that is the same for every order of them. Numbers
    that occur twice count twice."""
    return numpy.asarray(mix(values.astype(numpy.uint64)).sum(axis=-1, dtype=numpy.uint64))
