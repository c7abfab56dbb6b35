"""3-SAT: an assignment of truth values that satisfies every clause. docs/tasks.md has the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import comb
from typing import Annotated, ClassVar

import numpy
import torch
from numpy.typing import NDArray

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.base import Bounds, Task, fingerprint_set, require_option, tasks
from foresee.tasks.text import TextForm, split_at


@tasks.register("three-sat")
@dataclass(frozen=True, kw_only=True)
class ThreeSat(Task):
    """``1,-2,3/-1,2,4/...=1,2,-3,4``: ``clauses`` different clauses of three different variables each, and one literal
    for each of ``variables`` variables in order. A clause holds where one of its literals is in the assignment.

    An assignment is drawn uniformly, then the clauses, uniformly among those it satisfies. One token a literal: 2 *
    (variable - 1), one more for its negation; ``/`` and ``=`` follow. ``chance`` is that of guessing the drawn
    assignment; others may satisfy too. Two problems are the same where they have the same clauses, in any order.
    """

    summary: ClassVar[str] = "an assignment that satisfies every clause; any one is right"
    text = TextForm("1,-2,3/-1,2,4/...=1,2,-3,4", marks=("/", "="), noun="literal", item="clause", between="/")

    variables: Annotated[int, Bounds(3, 20)] = 5
    clauses: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self, "clauses", 1, min(1000, 7 * comb(self.variables, 3)))
        literals = (text for number in range(1, self.variables + 1) for text in (f"{number}", f"-{number}"))
        self.declare(
            vocab=Vocabulary((*literals, "/", "=")), chance=0.5**self.variables,
            prompt_length=4 * self.clauses, answer_length=self.variables,
        )  # fmt: skip

    @cached_property
    def _choices(self) -> tuple[NDArray[numpy.int64], NDArray[numpy.int64]]:
        """[C, 3] variables and [C, 3] whether a literal is false under the assignment, of all clauses it satisfies."""
        patterns = [false for false in product((0, 1), repeat=3) if false != (1, 1, 1)]
        pairs = list(product(combinations(range(self.variables), 3), patterns))
        return numpy.array([chosen for chosen, _ in pairs]), numpy.array([false for _, false in pairs])

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        variables, false = self._choices
        negated = rng.integers(2, size=(n, self.variables))
        chosen = rng.random((n, len(variables))).argsort(axis=1)[:, : self.clauses]
        involved = variables[chosen]
        signs = numpy.take_along_axis(negated, involved.reshape(n, -1), axis=1).reshape(involved.shape) ^ false[chosen]
        slash, equals = self.vocab.token("/"), self.vocab.token("=")
        tokens = numpy.full((n, self.prompt_length + self.variables), slash, numpy.int64)
        clauses = tokens[:, : self.prompt_length].reshape(n, self.clauses, 4)
        clauses[:, :, :3] = 2 * involved + signs
        tokens[:, : self.prompt_length] = clauses.reshape(n, -1)
        tokens[:, self.prompt_length - 1] = equals
        tokens[:, self.prompt_length :] = 2 * numpy.arange(self.variables) + negated
        return Batch.of(torch.from_numpy(tokens), self.prompt_length, self.variables)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """A satisfying assignment by trying values variable by variable."""
        found = self._extend([], [set(clause) for clause in self._clauses(prompt)])
        if found is None:
            raise RequestError("no assignment satisfies all clauses of the prompt")
        return found

    def identity(self, batch: Batch) -> Fingerprints:
        tokens = batch.tokens[:, : self.prompt_length].cpu().numpy()
        literals = tokens.reshape(len(tokens), self.clauses, 4)[:, :, :3]
        return fingerprint_set(fingerprint_set(literals))

    def check_prompt(self, prompt: Sequence[int]) -> None:
        for place, clause in enumerate(self._clauses(prompt), 1):
            if len({literal // 2 for literal in clause}) != 3:
                raise RequestError(f"clause {place} is not three different variables, as in 1,-2,3")

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        clauses = self._clauses(prompt)
        if [literal // 2 for literal in answer] != list(range(self.variables)):
            return f"the answer is not one literal for each of the variables 1 to {self.variables} in order"
        for place, clause in enumerate(clauses, 1):
            if not any(literal in answer for literal in clause):
                return f"the answer does not satisfy clause {place}, {','.join(self.vocab.decode(clause))}"
        return None

    def _clauses(self, prompt: Sequence[int]) -> list[list[int]]:
        """Three literals each. Raises ``RequestError`` where the prompt has another form."""
        tokens = [int(token) for token in prompt]
        clauses = split_at(tokens[:-1], self.vocab.token("/"))
        if len(clauses) != self.clauses or tokens[-1:] != [self.vocab.token("=")]:
            raise RequestError(f"the problem holds {len(clauses)} clauses, but must hold {self.clauses}, and then '='")
        for place, clause in enumerate(clauses, 1):
            if len(clause) != 3 or not all(0 <= literal < 2 * self.variables for literal in clause):
                raise RequestError(f"clause {place} is not three different variables, as in 1,-2,3")
        return clauses

    def _extend(self, chosen: list[int], open_clauses: list[set[int]]) -> list[int] | None:
        """``chosen`` with a literal for every further variable, so that the clauses left open hold; or None."""
        if not all(open_clauses):
            return None
        if len(chosen) == self.variables:
            return chosen
        for literal in (2 * len(chosen), 2 * len(chosen) + 1):
            left = [clause - {literal ^ 1} for clause in open_clauses if literal not in clause]
            found = self._extend([*chosen, literal], left)
            if found is not None:
                return found
        return None


# The published kinds by their variables (5, 7, 9); about 4.3 clauses a variable, where random 3-SAT is hard, is ours.
tasks.preset("three-sat-mini", "three-sat:variables=4,clauses=12")
tasks.preset("three-sat-5", "three-sat:variables=5,clauses=21")
tasks.preset("three-sat-7", "three-sat:variables=7,clauses=30")
tasks.preset("three-sat-9", "three-sat:variables=9,clauses=39")
