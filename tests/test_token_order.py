"""Token order: the loss by hand, and targets."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from support import SMALL, Stub, build

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import torch_stream
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.token_order import TokenOrder, order_targets

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4], [2 / 3, 1 / 3]])
"""Row t: next-token's probabilities of a and b after reading a or b."""

ORDER_AFTER_TOKEN = torch.tensor([[1 / 5, 4 / 5], [3 / 7, 4 / 7]])
"""Row t: the second head's softmax over a and b after reading a or b."""


def stubbed(window: int | None = None, weight: float = 1.0) -> TokenOrder:
    made = TokenOrder(
        Stub(AFTER_TOKEN.log() + 5, "token"),
        Vocabulary(("a", "b")),
        torch_stream("by hand"),
        window=window,
        weight=weight,
    )
    with torch.no_grad():
        made.order_head.copy_(ORDER_AFTER_TOKEN.log().T - 2)  # scores are scored up to a constant
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


# The loss.


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_loss_by_hand(weight: float) -> None:
    """Prompt "a", answer "b b a": reads a, b, b. First b is 1 ahead and a 3, then b 1 and a 2, then a 1."""
    out = stubbed(weight=weight).loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), torch_stream("none"))
    far, near = 1 / (1 + exp(2)), 1 / (1 + exp(1))  # what a is worth
    order = -(far * log(1 / 5) + (1 - far) * log(4 / 5) + near * log(3 / 7) + (1 - near) * log(4 / 7) + log(3 / 7))
    plain = [log(3 / 4), log(1 / 3), log(2 / 3)]
    assert list(out.parts) == ["next-token", "token-order"]
    assert out.parts["next-token"].item() == pytest.approx(-sum(plain) / 3, rel=1e-5)
    assert out.parts["token-order"].item() == pytest.approx(weight * order / 3, rel=1e-5)
    assert out.total.item() == pytest.approx(-sum(plain) / 3 + weight * order / 3, rel=1e-5)
    assert out.per_token[0].tolist() == pytest.approx([0, *(-term for term in plain)], rel=1e-5)


def test_a_window_of_one_is_next_token_on_the_second_head() -> None:
    out = stubbed(window=1).loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), torch_stream("none"))
    assert out.parts["token-order"].item() == pytest.approx(-(log(4 / 5) + log(4 / 7) + log(3 / 7)) / 3, rel=1e-5)


def test_prompts_and_padding_are_not_ordered() -> None:
    """A second row with prompt "a b", answer "a" and padding: one position, a 1 ahead; means are over answer tokens."""
    tokens = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 1]])
    alone = stubbed().loss(Batch.of(tokens[:1], 1, 3), torch_stream("none")).parts["token-order"].item()
    out = stubbed().loss(Batch.of(tokens, torch.tensor([1, 2]), torch.tensor([3, 1])), torch_stream("none"))
    assert out.parts["token-order"].item() == pytest.approx((3 * alone - log(3 / 7)) / 4, rel=1e-5)


def test_the_loss_cannot_fall_below_the_targets_entropy() -> None:
    """A head that gives the targets themselves loses their entropy: 1.000 nat with five different tokens to come."""
    targets = order_targets(torch.arange(5)[None], torch.ones(1, 5, dtype=torch.bool), 5, None)
    entropies = -(targets * targets.clamp_min(1e-30).log()).sum(-1)[0]
    made = TokenOrder(Stub(torch.eye(6)[:, :5], "token"), Vocabulary(tuple("abcde")), torch_stream("entropy"))
    with torch.no_grad():  # after reading the prompt's 5, then 0, 1, 2, 3
        made.order_head = torch.nn.Parameter(targets[0].clamp_min(1e-30).log()[[1, 2, 3, 4, 0, 0]].T.contiguous())
    out = made.loss(Batch.of(torch.tensor([[5, 0, 1, 2, 3, 4]]), 1, 5), torch_stream("none"))
    assert entropies[0].item() == pytest.approx(1.000, abs=5e-4)
    assert out.parts["token-order"].item() == pytest.approx(entropies.mean().item(), rel=1e-5)


# The targets.


def test_published_targets() -> None:
    targets = order_targets(torch.arange(5)[None], torch.ones(1, 5, dtype=torch.bool), 7, None)[0]
    assert targets[0].tolist() == pytest.approx([0.636, 0.234, 0.086, 0.032, 0.012, 0, 0], abs=6e-4)
    assert targets[1].tolist() == pytest.approx([0, 0.644, 0.237, 0.087, 0.032, 0, 0], abs=6e-4)
    assert targets[2].tolist() == pytest.approx([0, 0, 0.665, 0.245, 0.090, 0, 0], abs=6e-4)
    assert targets[3].tolist() == pytest.approx([0, 0, 0, 0.731, 0.269, 0, 0], abs=6e-4)
    assert targets[4].tolist() == [0, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("window", [None, 1, 2, 3, 6, 100])
def test_targets_against_the_definition(window: int | None) -> None:
    answers = torch.randint(4, (20, 6), generator=torch_stream("answers"))
    expected = [slow_targets(row, 5, window) for row in answers.tolist()]
    targets = order_targets(answers, torch.ones(20, 6, dtype=torch.bool), 5, window)
    torch.testing.assert_close(targets, torch.tensor(expected))


def test_the_window_ends_w_tokens_ahead() -> None:
    """The paper's algorithm: a token W ahead counts, one W + 1 ahead does not, the next token being 1 ahead."""
    targets = order_targets(torch.arange(4)[None], torch.ones(1, 4, dtype=torch.bool), 4, 2)
    assert (targets[0] > 0).tolist() == [
        [True, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
        [False, False, False, True],
    ]


def test_long_answers_overflow_nowhere() -> None:
    targets = order_targets(torch.arange(300)[None], torch.ones(1, 300, dtype=torch.bool), 300, None)
    torch.testing.assert_close(targets.sum(-1), torch.ones(1, 300))


@pytest.mark.parametrize("column", range(5))
def test_a_token_is_a_target_up_to_where_it_stands(column: int) -> None:
    """The position that predicts column i is told of columns i and later, never of earlier ones."""
    answers, answered = torch.tensor([[3, 1, 4, 0, 2]]), torch.ones(1, 5, dtype=torch.bool)
    changed = answers.clone()
    changed[0, column] = 5
    moved = (order_targets(answers, answered, 6, None) != order_targets(changed, answered, 6, None)).any(-1)[0]
    assert moved.tolist() == [row <= column for row in range(5)]


def test_an_empty_window_is_refused() -> None:
    reason = "^token-order: window=0 must be at least 1, or none for the whole answer$"
    with pytest.raises(RequestError, match=reason):
        build("token-order:window=0", next(iter(SMALL)))
