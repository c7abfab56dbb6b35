"""What a trained objective holds likely at every step of an answer, whoever wrote the steps before.

``Objective.forced`` scores every place of an answer given what comes before it in the objective's own order, and no
place sees a symbol at or after itself. So the scores after an answer that is only begun are those of any answer that
begins so: the rest is filled up with a token that nothing reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import ForeseeError
from foresee.objectives.base import Objective, Trace

FILLER = 0
NOT_NUMBERS = "the model's scores are not numbers, so it decides nothing; its training went astray"


class Decoding(StrEnum):
    """How an objective decides, as far as it can be shown."""

    scored = "scored"
    """One symbol at a time, each with the probabilities that it was chosen by."""
    continued = "continued"
    """One symbol at a time from the first to the last, without probabilities."""
    whole = "whole"
    """The answer at once, with probabilities where the objective tells them (``Objective.trace``)."""


def find_decoding(objective: Objective, prompt: Sequence[int], length: int) -> Decoding:
    """What ``objective`` can show; tried on one prompt."""
    if objective.order == "parallel":
        return Decoding.whole
    if step_log_probs(objective, prompt, [], length) is not None:
        return Decoding.scored
    return Decoding.continued if objective.order == "forward" else Decoding.whole


def in_task_order(objective: Objective, decided: Sequence[int]) -> list[int]:
    """A list in the order of decision, in the task's order; the other way round too."""
    return list(reversed(decided)) if objective.order == "backward" else list(decided)


@torch.inference_mode()
def step_log_probs(objective: Objective, prompt: Sequence[int], begun: Sequence[int], length: int) -> Tensor | None:
    """[S, V] log-probabilities of every step up to the first that is open, where ``begun`` holds the symbols decided so
    far in the objective's order, of an answer of ``length`` symbols; S is ``len(begun) + 1``, or ``length`` where
    nothing is open. None where the objective, which is on the CPU, cannot be forced. Raises ``ForeseeError`` where the
    scores are not numbers."""
    filled = [*begun, *[FILLER] * (length - len(begun))]
    tokens = torch.tensor([[*prompt, *in_task_order(objective, filled)]])
    scores = objective.forced(Batch.of(tokens, len(prompt), length))
    if scores is None:
        return None
    ordered = scores[0].flip(0) if objective.order == "backward" else scores[0]
    return _require_numbers(ordered[: len(begun) + 1].float())


@torch.inference_mode()
def trace(objective: Objective, prompt: Sequence[int], length: int) -> Trace | None:
    """How an objective that decides an answer as a whole comes to it; None where it does not say."""
    found = objective.trace(torch.tensor([list(prompt)]), length)
    if found is not None:
        _require_numbers(found.log_probs)
    return found


@torch.inference_mode()
def decide(objective: Objective, prompt: Sequence[int], begun: Sequence[int], length: int, how: Decoding) -> list[int]:
    """What the model decides next, in its own order: one symbol, or the whole answer."""
    if how is Decoding.scored:
        scores = step_log_probs(objective, prompt, begun, length)
        assert scores is not None
        return [int(scores[-1].argmax())]
    asked, written = (torch.tensor([row], dtype=torch.int64) for row in (prompt, begun))
    if how is Decoding.continued:
        return [int(objective.continue_answer(asked, written, 1)[0, 0])]
    return in_task_order(objective, [int(token) for token in objective.generate(asked, length)[0]])


def _require_numbers(scores: Tensor) -> Tensor:
    if scores.isnan().any():
        raise ForeseeError(NOT_NUMBERS)
    return scores
