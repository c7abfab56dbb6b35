"""The anatomy of an example: what a trained objective gives each symbol, step by step, and what the branch reads.

Probabilities come from ``Objective.forced``: the distribution of a token does not depend on the tokens decided after
it, so the model's own answer, put in place of the true one, gives the probabilities it was decoded with. An objective
that cannot be forced tells them by ``Objective.trace``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.metrics.measure import evaluation_mode
from foresee.objectives.base import Objective
from foresee.tasks.base import Task

TOP = 4
"""Symbols shown at each step."""
LONGEST_ATTENTION = 128
"""Positions beyond which attention is left out: it would be no picture any more."""
DIGITS = 4
"""Decimal places kept of a probability."""


def anatomy(
    task: Task, objective: Objective, prompt: list[int], answer: list[int], predictions: list[int]
) -> dict[str, Any]:
    """One example as JSON values.

    ``order`` is the objective's; ``truth`` and ``free`` are its steps with the true answer shown and with its own (see
    ``steps``); where it cannot be forced, ``truth`` is absent and ``passes`` says in which pass each place was decided,
    from 1. ``attention`` is what the position that decides the branch reads (see
    ``branch_attention``), absent where the task has no branch or the backbone no attention to show.
    """
    found: dict[str, Any] = {"order": objective.order}
    device = next(objective.parameters()).device

    def row(response: list[int]) -> Batch:
        tokens = torch.tensor([prompt + response], device=device)
        return Batch.of(tokens, len(prompt), len(response))

    with evaluation_mode(objective):
        truth = row(answer)
        log_probs, read = _forced(objective, truth)
        if log_probs is None:
            trace = objective.trace(torch.tensor([prompt], device=device), len(predictions)) if predictions else None
            if trace is not None:
                found["free"] = steps(objective, trace.log_probs, predictions)
                found["passes"] = trace.passes.tolist()
            return found
        found["truth"] = steps(objective, log_probs[0], answer)
        if predictions:
            written, _ = _forced(objective, row(predictions))
            assert written is not None
            found["free"] = steps(objective, written[0], predictions)
        branch = task.facts_of(truth).get("branch")
        place = -1 if branch is None else int(branch[0])  # negative where the example holds no decision
        if place >= 0 and read is not None and read.shape[1] == len(prompt) + len(answer) - 1:
            decided = place if objective.order == "forward" else len(answer) - 1 - place
            attention = branch_attention(objective.backbone, read, len(prompt) - 1 + decided)
            if attention is not None:
                shown = answer if objective.order == "forward" else answer[::-1]
                found["branch"] = place
                found["attention"] = {"read": objective.vocab.decode((prompt + shown)[: len(prompt) + decided])}
                found["attention"]["layers"] = attention
    return found


def steps(objective: Objective, log_probs: Tensor, shown: list[int]) -> list[dict[str, Any]]:
    """[A, V] -> for each answer token, in the task's order: ``symbol`` that was shown there, its probability ``p``, and
    ``top``, the likeliest symbols with theirs."""
    found = []
    for each, token in zip(log_probs.float(), shown, strict=True):
        values, tokens = each.topk(min(TOP, len(each)))
        symbols = objective.vocab.decode(tokens.tolist())
        top = [[symbol, _probability(value)] for symbol, value in zip(symbols, values.tolist(), strict=True)]
        (symbol,) = objective.vocab.decode([token])
        found.append({"symbol": symbol, "p": _probability(float(each[token])), "top": top})
    return found


def branch_attention(backbone: Backbone, read: Tensor, position: int) -> list[list[list[float]]] | None:
    """What ``position`` reads of each position up to itself, by layer and head, for embeddings ``read`` [1, T, D]; None
    where there is nothing to show."""
    if read.shape[1] > LONGEST_ATTENTION:
        return None
    shown = backbone.attention(read)
    if shown is None:
        return None
    weights: list[list[list[float]]] = shown[:, 0, :, position, : position + 1].cpu().double().tolist()
    return [[[round(weight, DIGITS) for weight in head] for head in layer] for layer in weights]


def _probability(log: float) -> float:
    return round(math.exp(log), DIGITS)


def _forced(objective: Objective, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
    """``objective.forced``, and the embeddings [1, T, D] that the backbone read for it; None where it read them under a
    mask or at given positions, or more than once."""
    reads: list[Tensor | None] = []

    def note(module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        plain = named.get("positions") is None and isinstance(attend := named.get("attend", "causal"), str)
        reads.append(given[0] if plain and attend == "causal" else None)

    hook = objective.backbone.register_forward_pre_hook(note, with_kwargs=True)
    try:
        log_probs = objective.forced(batch)
    finally:
        hook.remove()
    return log_probs, reads[0] if len(reads) == 1 else None
