"""Losses worked out with pencil and paper: two symbols, answers of three positions, logits that are a known table."""

from __future__ import annotations

from math import log

import pytest
import torch
from support import Stub
from torch import Tensor

from foresee.core import seeds, spec
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import LossOut, objectives

# Symbols a and b, and the dummy where an objective has one. Prompt "a", answer "b b a".
BATCH = Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3)

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4, 0.0], [2 / 3, 1 / 3, 0.0], [1 / 5, 3 / 5, 1 / 5]])
"""Row t: probabilities of a, b and $ after reading a, b or $."""

AT_POSITION = torch.tensor([[1 / 2, 1 / 2, 0.0], [1 / 8, 7 / 8, 0.0], [1 / 3, 2 / 3, 0.0]])
"""Row t: probabilities of a, b and $ at position t, whatever is read."""


def loss(objective: str, table: Tensor, by: str, batch: Batch = BATCH) -> LossOut:
    chosen = spec.resolve(objectives, objective)
    vocab = Vocabulary(("a", "b", "$"))
    # A logit is a log-probability up to a constant.
    stub = Stub(table.clamp_min(1e-30).log() + 5.0, by)  # type: ignore[arg-type]  # parametrised
    out: LossOut = chosen.build(stub, vocab, seeds.torch_stream("by hand")).loss(batch, seeds.torch_stream("by hand"))
    return out


@pytest.mark.parametrize(
    ("objective", "by", "terms"),
    [
        # Reads a, b, b and predicts b, b, a.
        ("next-token", "token", [log(3 / 4), log(1 / 3), log(2 / 3)]),
        ("next-token", "position", [log(1 / 2), log(7 / 8), log(1 / 3)]),
        # Reads a, a, b and predicts a, b, b: the last answer token first.
        ("reversed", "token", [log(1 / 3), log(3 / 4), log(1 / 4)]),
        ("reversed", "position", [log(2 / 3), log(7 / 8), log(1 / 2)]),
        # Reads a, $, $ and predicts b, b, a.
        ("teacherless", "token", [log(3 / 4), log(3 / 5), log(1 / 5)]),
        ("teacherless", "position", [log(1 / 2), log(7 / 8), log(1 / 3)]),
    ],
)
def test_loss_by_hand(objective: str, by: str, terms: list[float]) -> None:
    """``terms`` are log-probabilities of the answer's tokens in the task's own order."""
    out = loss(objective, AFTER_TOKEN if by == "token" else AT_POSITION, by)
    assert out.per_token[0].tolist() == pytest.approx([0.0, *(-term for term in terms)], rel=1e-5)
    assert out.total.item() == pytest.approx(-sum(terms) / 3, rel=1e-5)
    assert list(out.parts) == [objective]


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        ("next-token", [[log(3 / 4), log(1 / 3), log(2 / 3)], [log(2 / 3)]]),
        ("reversed", [[log(1 / 3), log(3 / 4), log(1 / 4)], [log(2 / 3)]]),
        ("teacherless", [[log(3 / 4), log(3 / 5), log(1 / 5)], [log(2 / 3)]]),
    ],
)
def test_the_mean_is_over_answer_tokens_not_rows(objective: str, terms: list[list[float]]) -> None:
    """A second row with prompt "a b", answer "a" and one column of padding."""
    batch = Batch.of(torch.tensor([[0, 1, 1, 0], [0, 1, 0, 1]]), torch.tensor([1, 2]), torch.tensor([3, 1]))
    out = loss(objective, AFTER_TOKEN, "token", batch)
    assert out.total.item() == pytest.approx(-(sum(terms[0]) + terms[1][0]) / 4, rel=1e-5)
    assert out.per_token[1].tolist() == pytest.approx([0.0, 0.0, -terms[1][0], 0.0], rel=1e-5)
