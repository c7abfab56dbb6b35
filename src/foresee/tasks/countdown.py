"""Countdown: combine the given numbers by arithmetic until the target is left.

Used by Ye et al. (2024, "Beyond Autoregression", MGDM) with 3, 4 and 5 numbers and by NextLat among others. Their data
files were not at hand: the text form and the rules are those of research/tasks.md section 8, and the sizes of numbers,
which it does not say, are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb, prod
from typing import ClassVar

import numpy
import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import countdown_solve, reading
from foresee.tasks.base import Task, tasks

FORM = "19,13,10/16=19-13=6,10+6=16"
STEP = 5
"""Tokens of an equation: ``19``, ``-``, ``13``, ``=``, ``6``."""


@tasks.register("countdown")
@dataclass(frozen=True, kw_only=True)
class Countdown(Task):
    """``19,13,10/16=19-13=6,10+6=16``: each equation replaces two of the numbers at hand by their sum, difference,
    product or quotient, until only the target is left. Every given number is used once.

    ``numbers`` numbers are drawn uniformly from 1 .. ``largest``; no number, the target included, exceeds ``results``,
    and none is a fraction or negative. A problem is made from its solution: at every step two of the numbers at hand
    are drawn, then one of the operations that give a number from 1 to ``results``, all equally likely, with the larger
    number written first. So targets are not uniform. ``verify`` accepts every solution, 0 as a result and either order
    of the numbers included.

    One token a number: 0 .. results, then ``+``, ``-``, ``*``, ``/``, ``=``; commas are not tokens. ``/`` also stands
    before the target. All answers have 5 * (numbers - 1) tokens.

    ``chance`` is that of drawing one solution among all pairs and operations; that some are impossible and that several
    may be right is left out, so a blind solver does better. Two problems are the same where they hold the same numbers,
    in any order, and the same target. Raises ``RequestError`` where an option is out of range.
    """

    summary: ClassVar[str] = "numbers combined by arithmetic until the target is left; any solution is right"

    numbers: int = 3
    largest: int = 20
    results: int = 100

    def __post_init__(self) -> None:
        reading.require_option("countdown", "numbers", self.numbers, 2, 6)
        reading.require_option("countdown", "results", self.results, 1, 100_000)
        reading.require_option("countdown", "largest", self.largest, 1, self.results)

    @cached_property
    def vocab(self) -> Vocabulary:
        """The numbers, then the operations and ``=``."""
        return Vocabulary((*map(str, range(self.results + 1)), *countdown_solve.OPERATIONS, "="))

    @property
    def equals(self) -> int:
        """The token of ``=``."""
        return self.results + 1 + len(countdown_solve.OPERATIONS)

    @property
    def chance(self) -> float:
        at_hand = range(2, self.numbers + 1)
        return 1 / prod(comb(count, 2) * len(countdown_solve.OPERATIONS) for count in at_hand)

    @property
    def prompt_length(self) -> int:
        return self.numbers + 3

    @property
    def answer_length(self) -> int:
        return STEP * (self.numbers - 1)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        plus = self.results + 1
        values = rng.integers(1, self.largest, size=(n, self.numbers), endpoint=True)
        columns = [values]
        answer = []
        for _ in range(self.numbers - 1):
            values = numpy.take_along_axis(values, rng.random(values.shape).argsort(axis=1), axis=1)
            high, low = values[:, :2].max(axis=1), values[:, :2].min(axis=1)
            results = numpy.stack([high + low, high - low, high * low, high // low], axis=1)
            # One always is: unequal numbers can be subtracted, and equal ones divided.
            allowed = (results >= 1) & (results <= self.results)
            allowed[:, 3] = high % low == 0
            operation = numpy.where(allowed, rng.random((n, 4)), -1.0).argmax(axis=1)
            result = numpy.take_along_axis(results, operation[:, None], axis=1)
            answer += [high, plus + operation, low, numpy.full(n, self.equals), result[:, 0]]
            values = numpy.concatenate([result, values[:, 2:]], axis=1)
        slash, equals = numpy.full((n, 1), plus + 3), numpy.full((n, 1), self.equals)
        tokens = numpy.concatenate([*columns, slash, values, equals, numpy.stack(answer, axis=1)], axis=1)
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.answer_length, {})

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """A solution, by search. Raises ``RequestError`` on a prompt of another form or without a solution."""
        numbers, target = self._problem(prompt)
        steps = countdown_solve.search(numbers, target, self.results)
        if steps is None:
            given = ",".join(map(str, numbers))
            raise RequestError(f"countdown: no arithmetic up to {self.results} on {given} leaves {target}")
        return [token for a, sign, b, c in steps for token in (a, self.vocab.token(sign), b, self.equals, c)]

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        numbers, target = self._problem(prompt)
        return self._fault(numbers, target, [int(token) for token in answer]) is None

    def identity(self, batch: Batch) -> Fingerprints:
        tokens = batch.tokens.cpu().numpy()
        numbers = numpy.sort(tokens[:, : self.numbers], axis=1)
        return fingerprint(numpy.concatenate([numbers, tokens[:, [self.numbers + 1]]], axis=1))

    def write_answer(self, answer: Sequence[int]) -> str:
        symbols = self.vocab.decode(answer)
        return ",".join("".join(symbols[at : at + STEP]) for at in range(0, len(symbols), STEP))

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        *numbers, slash, target, equals = self.vocab.decode(prompt)
        return f"{','.join(numbers)}{slash}{target}{equals}{self.write_answer(answer)}"

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        problem, written = reading.halves(line, FORM)
        given, slash, target = problem.partition("/")
        if not slash:
            raise RequestError(f"there is no '/' before the target; a line reads {FORM}")
        numbers = reading.whole_numbers(given, 1, self.results, "the numbers")
        reading.require_count(len(numbers), self.numbers, "numbers", "the problem")
        goal = reading.whole_number(target, 0, self.results, "the target")
        prompt = [*numbers, self.vocab.token("/"), goal, self.equals]
        answer = [token for text in written.split(",") for token in self._equation(text)] if written else []
        fault = self._fault(numbers, goal, answer) if answer else None
        if fault is not None:
            raise RequestError(fault)
        return prompt, answer

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return {}

    def _equation(self, text: str) -> list[int]:
        """Tokens of ``19-13=6``."""
        left, equals, right = text.partition("=")
        sign = next((sign for sign in countdown_solve.OPERATIONS if sign in left), None)
        if not equals or sign is None:
            raise RequestError(f"{reading.shown(text)} is not an equation such as 19-13=6")
        where = f"equation {reading.shown(text)}"
        a, _, b = left.partition(sign)
        first, second, result = (reading.whole_number(part, 0, self.results, where) for part in (a, b, right))
        return [first, self.vocab.token(sign), second, self.equals, result]

    def _problem(self, prompt: Sequence[int]) -> tuple[list[int], int]:
        """The numbers and the target."""
        tokens = [int(token) for token in prompt]
        numbers, rest = tokens[: self.numbers], tokens[self.numbers :]
        if len(rest) != 3 or rest[0] != self.vocab.token("/") or rest[2] != self.equals:
            raise RequestError(f"countdown: a prompt is {self.numbers} numbers, '/', the target and '='")
        if not all(0 <= number <= self.results for number in (*numbers, rest[1])):
            raise RequestError(f"countdown: the numbers and the target must be from 0 to {self.results}")
        return numbers, rest[1]

    def _fault(self, numbers: Sequence[int], target: int, answer: Sequence[int]) -> str | None:
        """The first thing that is wrong with an answer, whatever tokens it holds; None where it is right."""
        if len(answer) != self.answer_length:
            return f"the answer has {len(answer)} symbols, but {self.numbers} numbers take {self.numbers - 1} equations"
        at_hand = list(numbers)
        for at in range(0, len(answer), STEP):
            a, sign, b, equals, c = answer[at : at + STEP]
            text = "".join(self.vocab.decode(answer[at : at + STEP]))
            if not 0 <= sign - self.results - 1 < len(countdown_solve.OPERATIONS) or equals != self.equals:
                return f"{text!r} is not an equation"
            for used in (a, b):
                if used not in at_hand:
                    return f"{text!r} uses a number that is not, or no longer, at hand"
                at_hand.remove(used)
            if not 0 <= c <= self.results or countdown_solve.apply(self.vocab.symbols[sign], a, b) != c:
                return f"{text!r} is not true of whole numbers up to {self.results}"
            at_hand.append(c)
        return None if at_hand == [target] else f"the equations leave {at_hand[0]}, but the target is {target}"


# The published kinds by how many numbers they have (3, 4, 5); 1 to 100 for all numbers is our choice.
tasks.preset("countdown-mini", "countdown:numbers=3,largest=10,results=50")
tasks.preset("countdown-3", "countdown:numbers=3,largest=100,results=100")
tasks.preset("countdown-4", "countdown:numbers=4,largest=100,results=100")
tasks.preset("countdown-5", "countdown:numbers=5,largest=100,results=100")
