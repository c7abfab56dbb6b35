"""What tasks share whose prompts and answers are both lists of numbers, ``3,1,2=1,2,3``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import reading
from foresee.tasks.base import Task


class NumberTask(Task):
    """The prompt is ``inputs`` numbers and ``=``, and the answer ``answer_length`` numbers, one right answer each.

    Tokens 0 .. size - 1 are the numbers; ``=`` follows. The commas of the text form are not tokens.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """How many numbers there are, from 0 up."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """Numbers of a prompt."""

    @cached_property
    def vocab(self) -> Vocabulary:
        return Vocabulary((*map(str, range(self.size)), "="))

    @property
    def prompt_length(self) -> int:
        return self.inputs + 1

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        return [int(token) for token in answer] == self.solve(prompt)

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """``3,1,2=1,2,3``."""
        return f"{','.join(self.vocab.decode(prompt[:-1]))}={self.write_answer(answer)}"

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        problem, written = reading.halves(line, "3,1,2=1,2,3")
        numbers = reading.whole_numbers(problem, 0, self.size - 1, "the prompt")
        reading.require_count(len(numbers), self.inputs, "numbers", "the prompt")
        self.check_problem(numbers)
        answer = reading.whole_numbers(written, 0, self.size - 1, "the answer")
        prompt = [*numbers, self.size]
        if answer:
            right = self.solve(prompt)
            reading.require_same(self.vocab.decode(answer), self.vocab.decode(right), "the right answer")
        return prompt, answer

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return {}

    def check_problem(self, numbers: Sequence[int]) -> None:
        """Raises ``RequestError`` where numbers of the right count and range are no problem of the task."""

    def numbers_of(self, prompt: Sequence[int], name: str) -> list[int]:
        """The numbers of a prompt. Raises ``RequestError`` where it has another form; ``name`` is the task's."""
        *numbers, equals = [int(token) for token in prompt] or [-1]
        if len(numbers) != self.inputs or equals != self.size or not all(0 <= each < self.size for each in numbers):
            raise RequestError(f"{name}: a prompt is {self.inputs} numbers below {self.size} and '='")
        return numbers

    def batch_of(self, problems: NDArray[numpy.int64], answers: NDArray[numpy.int64]) -> Batch:
        """Rows of numbers [B, inputs] and [B, answer_length] as a batch."""
        equals = numpy.full((len(problems), 1), self.size)
        tokens = numpy.concatenate([problems, equals, answers], axis=1).astype(numpy.int64)
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.answer_length, {})

    def problems_in(self, batch: Batch) -> NDArray[numpy.int64]:
        """[B, inputs] the numbers of prompts."""
        return batch.tokens[:, : self.inputs].cpu().numpy()


class Rearrangement(NumberTask):
    """The answer is the prompt's ``length`` numbers, all below ``symbols``, in an order that is no decision: a solver
    that knows the rule is never left to guess."""

    length: int
    symbols: int

    @property
    def size(self) -> int:
        return self.symbols

    @property
    def inputs(self) -> int:
        return self.length

    @property
    def chance(self) -> float:
        return 1.0

    @property
    def answer_length(self) -> int:
        return self.length
