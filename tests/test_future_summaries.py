"""Future bag, token order and ranking into the future: targets and losses by hand, and by their definitions."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any, Literal

import pytest
import torch
from objective_support import assert_loss, rng
from support import Stub, right_padded

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.future_bag import FutureBag, future_bags
from foresee.objectives.ranking_future import RankingFuture, ranking_losses
from foresee.objectives.token_order import TokenOrder, order_targets

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4], [2 / 3, 1 / 3]])
"""Row t: next-token's probabilities of a and b after reading a or b."""

ORDER_AFTER_TOKEN = torch.tensor([[1 / 5, 4 / 5], [3 / 7, 4 / 7]])
"""Row t: the second head's softmax over a and b after reading a or b."""


def stubbed_order(weight: float) -> TokenOrder:
    made = TokenOrder(Stub(AFTER_TOKEN.log() + 5, "token"), Vocabulary(("a", "b")), rng(), weight=weight)
    with torch.no_grad():
        made.order_head.copy_(ORDER_AFTER_TOKEN.log().T - 2)  # scores are scored up to a constant
    return made


BAG_AFTER_TOKEN = torch.tensor([[1 / 5, 5 / 6], [3 / 7, 2 / 9]])
"""Row t: how likely a and b are still to come, says the second head after reading a or b."""


def stubbed_bag(**options: Any) -> FutureBag:
    made = FutureBag(Stub(AFTER_TOKEN.log() + 5, "token"), Vocabulary(("a", "b")), rng(), **options)
    with torch.no_grad():
        made.bag_head.copy_(BAG_AFTER_TOKEN.logit().T)
    return made


def slow_targets(answers: list[int], symbols: int, window: int | None) -> list[list[float]]:
    """The paper's definition, one symbol at a time."""
    rows = []
    for first in range(len(answers)):
        scores = [0.0] * symbols
        for symbol in range(symbols):
            distances = [at - first + 1 for at in range(first, len(answers)) if answers[at] == symbol]
            if distances and (window is None or distances[0] <= window):
                scores[symbol] = exp((window or len(answers)) - distances[0])
        rows.append([score / sum(scores) for score in scores])
    return rows


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_order_by_hand(weight: float) -> None:
    """Prompt "a", answer "b b a": reads a, b, b. First b is 1 ahead and a 3, then b 1 and a 2, then a 1."""
    out = stubbed_order(weight=weight).loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    far, near = 1 / (1 + exp(2)), 1 / (1 + exp(1))  # what a is worth
    order = -(far * log(1 / 5) + (1 - far) * log(4 / 5) + near * log(3 / 7) + (1 - near) * log(4 / 7) + log(3 / 7))
    plain = [log(3 / 4), log(1 / 3), log(2 / 3)]
    parts = {"next-token": -sum(plain) / 3, "token-order": weight * order / 3}
    assert_loss(out, parts, [-term for term in plain])


def test_published_targets_and_long_answers_overflow_nowhere() -> None:
    targets = order_targets(torch.arange(5)[None], torch.ones(1, 5, dtype=torch.bool), 7, None)[0]
    published = [[0.636, 0.234, 0.086, 0.032, 0.012], [0.644, 0.237, 0.087, 0.032], [0.665, 0.245, 0.090],
                 [0.731, 0.269], [1.0]]  # fmt: skip
    for row, (target, expected) in enumerate(zip(targets.tolist(), published, strict=True)):
        assert target == pytest.approx([0.0] * row + expected + [0.0, 0.0], abs=6e-4)
    targets = order_targets(torch.arange(300)[None], torch.ones(1, 300, dtype=torch.bool), 300, None)
    torch.testing.assert_close(targets.sum(-1), torch.ones(1, 300))


@pytest.mark.parametrize("window", [None, 1, 2, 3, 6, 100])
def test_targets_against_the_definition(window: int | None) -> None:
    answers = torch.randint(4, (20, 6), generator=rng())
    expected = [slow_targets(row, 5, window) for row in answers.tolist()]
    targets = order_targets(answers, torch.ones(20, 6, dtype=torch.bool), 5, window)
    torch.testing.assert_close(targets, torch.tensor(expected))


def slow_bags(answers: list[int], symbols: int, horizon: int | None) -> list[list[float]]:
    """The definition: the position before column i, t = i - 1, is asked for tokens t + 2 to t + horizon."""
    rows = []
    for t in range(-1, len(answers) - 1):
        stop = len(answers) if horizon is None else t + horizon + 1
        coming = set(answers[t + 2 : stop])
        rows.append([float(symbol in coming) for symbol in range(symbols)])
    return rows


@pytest.mark.parametrize(
    ("options", "weight"), [({}, 1.0), ({"weight": 2.0}, 2.0), ({"reduction": "sum"}, 2.0)], ids=str
)
def test_bag_by_hand(options: dict[str, Any], weight: float) -> None:
    """Prompt "a", answer "b b a": reads a, b, b; after the next token come {b, a}, then {a}, then nothing. The sum over
    two symbols weighs as much as twice their mean."""
    out = stubbed_bag(**options).loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    bags = [log(1 / 5) + log(5 / 6), log(3 / 7) + log(7 / 9), log(4 / 7) + log(7 / 9)]
    plain = [log(3 / 4), log(1 / 3), log(2 / 3)]
    # Means over three positions and two symbols.
    parts = {"next-token": -sum(plain) / 3, "future-bag": -weight * sum(bags) / 6}
    assert_loss(out, parts, [-term for term in plain])


@pytest.mark.parametrize("horizon", [None, 2, 3, 6, 100])
def test_bags_against_the_definition(horizon: int | None) -> None:
    answers = torch.randint(4, (20, 6), generator=rng())
    expected = [slow_bags(row, 5, horizon) for row in answers.tolist()]
    bags = future_bags(answers, torch.ones(20, 6, dtype=torch.bool), 5, horizon)
    assert torch.equal(bags, torch.tensor(expected))


def stubbed_ranking(negatives: Literal["all", "prompt"]) -> RankingFuture:
    after_a, after_b = [1.0, 1.5, -1.0], [0.25, 0.5, 2.0]
    backbone = Stub(torch.tensor([after_a, after_b, [0.0] * 3]), "token")
    return RankingFuture(backbone, Vocabulary(("a", "b", "c")), rng(), negatives=negatives)


def test_ranking_by_hand() -> None:
    """Prompt a, answer b b a; the answer repeats b, so before the last step b stands above a, and both above c."""
    out = stubbed_ranking("all").loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    # Reads a: b over a by 0.5; both over c by more than 1.
    # Reads b: b over a by 0.25; b under c by 1.5, a under c by 1.75.
    # Reads b, and only a is to come: a under b by 0.25 and under c by 1.75.
    future, others = [0.5, 0.75, 0.0], [0.0, 2.5 + 2.75, 1.25 + 2.75]
    assert_loss(out, {"future": sum(future) / 3, "others": sum(others) / 3}, [0.5, 6.0, 4.0])


def test_ranking_above_the_prompt_by_hand() -> None:
    """Prompt c a, answer b a, and prompt a with the same answer: symbols of the prompt count one by one, and of those
    that are not in it only the highest."""
    rows = [Batch.of(torch.tensor([row]), len(row) - 2, 2) for row in ([2, 0, 1, 0], [0, 1, 0])]
    out = stubbed_ranking("prompt").loss(right_padded(rows, 2), rng())
    # Both read a: b over a by 0.5, and both over c by 2 and more.
    # Both read b, and only a is to come: it is under c by 1.75 and under b by 0.25. The prompt c a holds c, and of the
    # others b is the highest; the prompt a holds neither, and c is the highest.
    parts = {"future": 1.0 / 4, "others": (2.75 + 1.25 + 2.75) / 4}
    assert_loss(out, parts, [0.5, 2.75 + 1.25, 0.0, 0.5, 2.75, 0.0])


def hinges_by_loops(
    logits: Sequence[Sequence[float]], answer: Sequence[int], negatives: Sequence[bool]
) -> list[tuple[float, float]]:
    """The two sums at every step of one answer."""
    sums = []
    for step in range(len(answer)):
        order = list(dict.fromkeys(answer[step:]))  # each token at its next occurrence
        score = logits[step]
        future = sum(
            max(0.0, 1.0 - (score[better] - score[worse]))
            for place, better in enumerate(order)
            for worse in order[place + 1 :]
        )
        rest = [symbol for symbol in range(len(score)) if symbol not in order]
        outside = [symbol for symbol in rest if not negatives[symbol]]
        below = [symbol for symbol in rest if negatives[symbol]]
        below += [max((score[symbol], symbol) for symbol in outside)[1]] if outside else []
        others = sum(max(0.0, 1.0 - (score[better] - score[worse])) for better in order for worse in below)
        sums.append((future, others))
    return sums


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("symbols", [3, 12])
def test_hinges_are_those_of_plain_loops(symbols: int, some: bool) -> None:
    """Answers of 1 to 5 tokens, with repeats and without, anywhere among the columns."""
    draws = rng()
    rows, columns = 40, 6
    logits = torch.randn(rows, columns, symbols, generator=draws)
    tokens = torch.randint(symbols, (rows, columns), generator=draws)
    start = torch.randint(0, 2, (rows, 1), generator=draws)
    length = torch.randint(1, 6, (rows, 1), generator=draws)
    place = torch.arange(columns) - start
    in_answer = (place >= 0) & (place < length)
    negatives = torch.rand(rows, symbols, generator=draws) < 0.5 if some else None
    future, others = ranking_losses(logits, tokens, in_answer, negatives)
    below = torch.ones(rows, symbols, dtype=torch.bool) if negatives is None else negatives
    for row in range(rows):
        chosen = in_answer[row]
        sums = hinges_by_loops(logits[row, chosen].tolist(), tokens[row, chosen].tolist(), below[row].tolist())
        expected = torch.tensor(sums)
        torch.testing.assert_close(torch.stack((future[row, chosen], others[row, chosen]), 1), expected)
        assert not future[row, ~chosen].any()
        assert not others[row, ~chosen].any()
    assert any(len(set(row)) < len(row) for row in tokens[:, :3].tolist())
