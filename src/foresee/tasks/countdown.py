"""Countdown: combine the given numbers by arithmetic until the target is left. docs/tasks.md has the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, prod
from typing import Annotated, ClassVar

import numpy
import torch

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.base import Bounds, Task, require_option, tasks
from foresee.tasks.text import TextForm

OPERATIONS = ("+", "-", "*", "/")
STEP = 5
"""Tokens of an equation: ``19``, ``-``, ``13``, ``=``, ``6``."""

Step = tuple[int, str, int, int]


@tasks.register("countdown")
@dataclass(frozen=True, kw_only=True)
class Countdown(Task):
    """``19,13,10/16=19-13=6,10+6=16``: each equation replaces two of the numbers at hand by their sum, difference,
    product or quotient, until only the target is left. Every given number is used once.

    ``numbers`` numbers are drawn uniformly from 1 .. ``largest``; no number exceeds ``results``, and none is a fraction
    or negative. A problem is made from its solution: at every step two of the numbers at hand are drawn, then one of
    the operations that give a number from 1 to ``results``, with the larger number written first. Every solution is
    right, 0 as a result and either order of the numbers included. One token a number, then ``+``, ``-``, ``*``, ``/``,
    ``=``.

    ``chance`` is that of drawing one solution among all pairs and operations; a blind solver does better, since some
    are impossible and several may be right. Two problems are the same where they hold the same numbers and the same
    target.
    """

    summary: ClassVar[str] = "numbers combined by arithmetic until the target is left; any solution is right"
    text = TextForm("19,13,10/16=19-13=6,10+6=16", marks=("/", "="), answer_marks=("+", "-", "*", "/", "="))

    numbers: Annotated[int, Bounds(2, 6)] = 3
    largest: int = 20
    results: Annotated[int, Bounds(1, 100_000)] = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self, "largest", 1, self.results)
        at_hand = range(2, self.numbers + 1)
        self.declare(
            vocab=Vocabulary((*map(str, range(self.results + 1)), *OPERATIONS, "=")),
            chance=1 / prod(comb(count, 2) * len(OPERATIONS) for count in at_hand),
            prompt_length=self.numbers + 3, answer_length=STEP * (self.numbers - 1),
        )  # fmt: skip

    @property
    def equals(self) -> int:
        """The token of ``=``."""
        return self.results + 1 + len(OPERATIONS)

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
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.answer_length)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """A solution, by search."""
        numbers, target = self._problem(prompt)
        steps = _search(tuple(sorted(numbers, reverse=True)), target, self.results, set())
        if steps is None:
            given = ",".join(map(str, numbers))
            raise RequestError(f"no arithmetic up to {self.results} on {given} leaves {target}")
        return [token for a, sign, b, c in steps for token in (a, self.vocab.token(sign), b, self.equals, c)]

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        at_hand, target = self._problem(prompt)
        answer = [int(token) for token in answer]
        if len(answer) != self.answer_length:
            return f"the answer has {len(answer)} symbols, but {self.numbers} numbers take {self.numbers - 1} equations"
        for at in range(0, len(answer), STEP):
            a, sign, b, equals, c = answer[at : at + STEP]
            text = "".join(self.vocab.decode(answer[at : at + STEP]))
            if not 0 <= sign - self.results - 1 < len(OPERATIONS) or equals != self.equals:
                return f"{text!r} is not an equation"
            for used in (a, b):
                if used not in at_hand:
                    return f"{text!r} uses a number that is not, or no longer, at hand"
                at_hand.remove(used)
            if not 0 <= c <= self.results or apply(self.vocab.symbols[sign], a, b) != c:
                return f"{text!r} is not true of whole numbers up to {self.results}"
            at_hand.append(c)
        return None if at_hand == [target] else f"the equations leave {at_hand[0]}, but the target is {target}"

    def check_prompt(self, prompt: Sequence[int]) -> None:
        if 0 in self._problem(prompt)[0]:
            raise RequestError(f"the numbers must be from 1 to {self.results}")

    def _problem(self, prompt: Sequence[int]) -> tuple[list[int], int]:
        """The numbers and the target. Raises ``RequestError`` where the prompt has another form."""
        tokens = [int(token) for token in prompt]
        numbers, rest = tokens[: self.numbers], tokens[self.numbers :]
        known = all(0 <= number <= self.results for number in (*numbers, *rest[1:2]))
        if not known or len(rest) != 3 or [rest[0], rest[2]] != [self.vocab.token("/"), self.equals]:
            raise RequestError(
                f"a problem is {self.numbers} numbers, '/', the target and '=', as in {self.text.example}"
            )
        return numbers, rest[1]

    def identity(self, batch: Batch) -> Fingerprints:
        tokens = batch.tokens.cpu().numpy()
        numbers = numpy.sort(tokens[:, : self.numbers], axis=1)
        return fingerprint(numpy.concatenate([numbers, tokens[:, [self.numbers + 1]]], axis=1))


def apply(sign: str, a: int, b: int) -> int | None:
    """The result of an operation, or None where it is no whole number from 0 up."""
    if sign == "+":
        return a + b
    if sign == "-":
        return a - b if a >= b else None
    if sign == "*":
        return a * b
    return a // b if b and a % b == 0 else None


def _search(numbers: tuple[int, ...], target: int, most: int, hopeless: set[tuple[int, ...]]) -> list[Step] | None:
    """Equations that use every number once and leave ``target``, none with a result above ``most``; None where there
    are none. ``numbers`` descend; ``hopeless`` collects those from which the target cannot be reached."""
    if len(numbers) == 1:
        return [] if numbers[0] == target else None
    if numbers in hopeless:
        return None
    for first, second in combinations(range(len(numbers)), 2):
        a, b = numbers[first], numbers[second]
        rest = numbers[:first] + numbers[first + 1 : second] + numbers[second + 1 :]
        for sign in OPERATIONS:
            result = apply(sign, a, b)
            if result is None or result > most:
                continue
            after = _search(tuple(sorted((*rest, result), reverse=True)), target, most, hopeless)
            if after is not None:
                return [(a, sign, b, result), *after]
    hopeless.add(numbers)
    return None


# The published kinds by how many numbers they have (3, 4, 5); 1 to 100 for all numbers is our choice.
tasks.preset("countdown-mini", "countdown:numbers=3,largest=10,results=50")
tasks.preset("countdown-3", "countdown:numbers=3,largest=100,results=100")
tasks.preset("countdown-4", "countdown:numbers=4,largest=100,results=100")
tasks.preset("countdown-5", "countdown:numbers=5,largest=100,results=100")
