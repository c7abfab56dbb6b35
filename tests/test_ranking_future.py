"""Ranking into the future: hinges against plain loops, and which tokens a step may rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from support import SMALL, Stub, build, random_batch, right_padded, scramble
from torch import Tensor

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.next_token import NextToken
from foresee.objectives.ranking_future import RankingFuture, ranking_losses

TRANSFORMER = next(iter(SMALL))


def rng(seed: int = 0) -> torch.Generator:
    return seeds.torch_stream("objective", seed)


def test_loss_by_hand() -> None:
    """Prompt a, answer b b a; the answer repeats b, so before the last step b stands above a, and both above c."""
    after_a, after_b = [1.0, 1.5, -1.0], [0.25, 0.5, 2.0]
    made = RankingFuture(Stub(torch.tensor([after_a, after_b, [0.0] * 3]), "token"), Vocabulary(("a", "b", "c")), rng())
    out = made.loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    # Reads a: b over a by 0.5; both over c by more than 1.
    # Reads b: b over a by 0.25; b under c by 1.5, a under c by 1.75.
    # Reads b, and only a is to come: a under b by 0.25 and under c by 1.75.
    future, others = [0.5, 0.75, 0.0], [0.0, 2.5 + 2.75, 1.25 + 2.75]
    assert out.per_token[0].tolist() == pytest.approx([0.0, 0.5, 6.0, 4.0])
    assert out.parts["future"].item() == pytest.approx(sum(future) / 3)
    assert out.parts["others"].item() == pytest.approx(sum(others) / 3)
    assert out.total.item() == pytest.approx(10.5 / 3)


def by_loops(logits: Sequence[Sequence[float]], answer: Sequence[int]) -> list[tuple[float, float]]:
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
        others = sum(max(0.0, 1.0 - (score[better] - score[worse])) for better in order for worse in rest)
        sums.append((future, others))
    return sums


@pytest.mark.parametrize("symbols", [3, 12])
def test_hinges_are_those_of_plain_loops(symbols: int) -> None:
    """Answers of 1 to 5 tokens, with repeats and without, anywhere among the columns."""
    draws = rng()
    rows, columns = 40, 6
    logits = torch.randn(rows, columns, symbols, generator=draws)
    tokens = torch.randint(symbols, (rows, columns), generator=draws)
    start = torch.randint(0, 2, (rows, 1), generator=draws)
    length = torch.randint(1, 6, (rows, 1), generator=draws)
    place = torch.arange(columns) - start
    in_answer = (place >= 0) & (place < length)
    future, others = ranking_losses(logits, tokens, in_answer)
    for row in range(rows):
        chosen = in_answer[row]
        expected = torch.tensor(by_loops(logits[row, chosen].tolist(), tokens[row, chosen].tolist()))
        torch.testing.assert_close(torch.stack((future[row, chosen], others[row, chosen]), 1), expected)
        assert not future[row, ~chosen].any()
        assert not others[row, ~chosen].any()
    assert any(len(set(row)) < len(row) for row in tokens[:, :3].tolist())


def test_the_loss_averages_over_answer_tokens() -> None:
    made = build("ranking-future", TRANSFORMER)
    scramble(made)
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 1)])]
    out = made.loss(right_padded(rows, 12), rng())
    sums = []
    for row in rows:
        logits = made.backbone.logits(made.backbone(made.backbone.embed(row.tokens)))[0, row.layout.first - 1 : -1]
        sums += by_loops(logits.tolist(), row.answers[0].tolist())
    assert out.parts["future"].item() == pytest.approx(sum(future for future, _ in sums) / 11, rel=1e-4)
    assert out.parts["others"].item() == pytest.approx(sum(others for _, others in sums) / 11, rel=1e-4)
    assert (out.per_token != 0).sum() == 11


@pytest.mark.parametrize("column", range(4))
def test_a_token_of_the_answer_is_ranked_until_its_turn_and_not_after(column: int) -> None:
    """Logits that depend on the position alone, so that a changed token acts as a target only."""
    table = torch.randn(13, 13, generator=rng())
    made = RankingFuture(Stub(table, "position"), Vocabulary(tuple(map(str, range(13)))), rng())
    batch = Batch.of(torch.tensor([[9, 10, 11, 12, 0, 1, 2, 3]]), 4, 4)
    tokens = batch.tokens.clone()
    tokens[0, 4 + column] = 8
    before, after = (made.loss(each, rng()).per_token for each in (batch, dataclasses.replace(batch, tokens=tokens)))
    assert (before != after)[0].nonzero().flatten().tolist() == list(range(4, 5 + column))


def test_no_prediction_reads_a_token_before_its_turn() -> None:
    """Gradients of a step's logits with respect to what is shown reach the tokens before it, and no later ones."""
    made, batch = build("ranking-future", TRANSFORMER), random_batch(rows=1)
    scramble(made)
    x = made.backbone.embed(batch.tokens).detach().requires_grad_()
    made.backbone.embed = lambda tokens: x[:, : tokens.shape[1]]  # type: ignore[method-assign]
    logits: list[Tensor] = []
    head = made.backbone.logits

    def spy(hidden: Tensor) -> Tensor:
        logits.append(head(hidden))
        return logits[-1]

    made.backbone.logits = spy  # type: ignore[method-assign]
    made.loss(batch, rng())
    for step in range(4):
        (gradient,) = torch.autograd.grad(logits[0][0, step].sum(), x, retain_graph=True)
        assert gradient[0].any(1).tolist() == [True] * (6 + step) + [False] * (4 - step)


def test_the_right_order_with_margins_loses_nothing() -> None:
    logits = torch.tensor([[[4.0, 5.0, 6.0, 3.0, 2.0], [1.0, 2.0, 0.0, 0.0, -1.0], [3.0, 2.0, 2.0, 1.0, 0.0]]])
    future, others = ranking_losses(logits, torch.tensor([[2, 1, 0]]), torch.ones(1, 3, dtype=torch.bool))
    assert not future.any()
    assert not others.any()
    logits[0, 1, 4] = 0.5
    future, others = ranking_losses(logits, torch.tensor([[2, 1, 0]]), torch.ones(1, 3, dtype=torch.bool))
    assert not future.any()
    assert others.tolist() == [[0.0, 0.5, 0.0]]


def test_a_step_that_loses_less_than_the_margin_decodes_its_token() -> None:
    draws = rng()
    logits = 3 * torch.randn(4000, 2, 3, generator=draws)
    answers = torch.randint(3, (4000, 2), generator=draws)
    future, others = ranking_losses(logits, answers, torch.ones_like(answers, dtype=torch.bool))
    small = future + others < 1.0
    assert 100 < small.sum() < 7900
    assert torch.equal(logits.argmax(-1)[small], answers[small])


def test_decoding_and_forcing_are_next_tokens() -> None:
    made, batch = build("ranking-future", TRANSFORMER), random_batch()
    scramble(made)
    plain = NextToken(made.backbone, made.vocab, rng())
    assert made.symbols == ()
    with torch.no_grad():
        assert torch.equal(made.generate(batch.prompts, 4), plain.generate(batch.prompts, 4))
        forced = made.forced(batch)
        assert forced is not None
        assert torch.equal(forced, plain.forced(batch))
    assert list(made.state_dict()) == list(plain.state_dict())


def test_it_takes_no_options() -> None:
    with pytest.raises(RequestError, match=r"^objective 'ranking-future' has no option 'margin'"):
        build("ranking-future:margin=2", TRANSFORMER)
