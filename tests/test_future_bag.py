"""Future bag: the loss by hand, and bags."""

from __future__ import annotations

from math import log

import pytest
import torch
from support import SMALL, Stub, build, random_batch

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import torch_stream
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.future_bag import FutureBag, future_bags

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4], [2 / 3, 1 / 3]])
"""Row t: next-token's probabilities of a and b after reading a or b."""

BAG_AFTER_TOKEN = torch.tensor([[1 / 5, 5 / 6], [3 / 7, 2 / 9]])
"""Row t: how likely a and b are still to come, says the second head after reading a or b."""


def stubbed(horizon: int | None = None, weight: float = 1.0) -> FutureBag:
    made = FutureBag(
        Stub(AFTER_TOKEN.log() + 5, "token"),
        Vocabulary(("a", "b")),
        torch_stream("by hand"),
        horizon=horizon,
        weight=weight,
    )
    with torch.no_grad():
        made.bag_head.copy_(BAG_AFTER_TOKEN.logit().T)
    return made


def slow_bags(answers: list[int], symbols: int, horizon: int | None) -> list[list[float]]:
    """The definition: the position before column i, t = i - 1, is asked for tokens t + 2 to t + horizon."""
    rows = []
    for t in range(-1, len(answers) - 1):
        stop = len(answers) if horizon is None else t + horizon + 1
        coming = set(answers[t + 2 : stop])
        rows.append([float(symbol in coming) for symbol in range(symbols)])
    return rows


# The loss.


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_loss_by_hand(weight: float) -> None:
    """Prompt "a", answer "b b a": reads a, b, b; after the next token come {b, a}, then {a}, then nothing."""
    out = stubbed(weight=weight).loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), torch_stream("none"))
    bags = [log(1 / 5) + log(5 / 6), log(3 / 7) + log(7 / 9), log(4 / 7) + log(7 / 9)]
    plain = [log(3 / 4), log(1 / 3), log(2 / 3)]
    assert list(out.parts) == ["next-token", "future-bag"]
    assert out.parts["next-token"].item() == pytest.approx(-sum(plain) / 3, rel=1e-5)
    # Means over three positions and two symbols.
    assert out.parts["future-bag"].item() == pytest.approx(-weight * sum(bags) / 6, rel=1e-5)
    assert out.total.item() == pytest.approx(-sum(plain) / 3 - weight * sum(bags) / 6, rel=1e-5)
    assert out.per_token[0].tolist() == pytest.approx([0, *(-term for term in plain)], rel=1e-5)


def test_a_horizon_of_two_asks_for_one_token() -> None:
    """After the next token come {b}, then {a}, then nothing."""
    out = stubbed(horizon=2).loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), torch_stream("none"))
    bags = [log(4 / 5) + log(5 / 6), log(3 / 7) + log(7 / 9), log(4 / 7) + log(7 / 9)]
    assert out.parts["future-bag"].item() == pytest.approx(-sum(bags) / 6, rel=1e-5)


def test_at_the_start_the_loss_does_not_grow_with_the_vocabulary() -> None:
    """About ln 2 with scores near zero, not V ln 2, which would swamp next-token's."""
    out = build("future-bag", next(iter(SMALL))).loss(random_batch(), torch_stream("none"))
    assert out.parts["future-bag"].item() == pytest.approx(log(2), rel=0.05)


# The bags.


@pytest.mark.parametrize("horizon", [None, 2, 3, 6, 100])
def test_bags_against_the_definition(horizon: int | None) -> None:
    answers = torch.randint(4, (20, 6), generator=torch_stream("answers"))
    expected = [slow_bags(row, 5, horizon) for row in answers.tolist()]
    bags = future_bags(answers, torch.ones(20, 6, dtype=torch.bool), 5, horizon)
    assert torch.equal(bags, torch.tensor(expected))


@pytest.mark.parametrize("column", range(5))
def test_the_next_token_is_never_in_the_bag(column: int) -> None:
    """Column i is in the bags of the positions that predict a column before it, and in no others."""
    answers, answered = torch.tensor([[3, 1, 4, 0, 2]]), torch.ones(1, 5, dtype=torch.bool)
    changed = answers.clone()
    changed[0, column] = 5
    moved = (future_bags(answers, answered, 6, None) != future_bags(changed, answered, 6, None)).any(-1)[0]
    assert moved.tolist() == [row < column for row in range(5)]


def test_a_horizon_without_a_bag_is_refused() -> None:
    reason = "^future-bag: horizon=1 must be at least 2, or none for the whole answer$"
    with pytest.raises(RequestError, match=reason):
        build("future-bag:horizon=1", next(iter(SMALL)))
