"""Future bag and token order alike: what their second head reads and learns from, and that decoding drops it."""

from __future__ import annotations

import pytest
import torch
from support import SMALL, VOCAB, build, random_batch, right_padded, scramble
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import torch_stream
from foresee.objectives.future_bag import FutureBag
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_states
from foresee.objectives.token_order import TokenOrder

FIRST = next(iter(SMALL))

pytestmark = pytest.mark.parametrize("objective", ["future-bag", "token-order"])


def scrambled(objective: str, backbone: str = FIRST) -> FutureBag | TokenOrder:
    made = build(objective, backbone)
    assert isinstance(made, FutureBag | TokenOrder)
    scramble(made)
    return made


def second_head(made: FutureBag | TokenOrder) -> Tensor:
    return made.bag_head if isinstance(made, FutureBag) else made.order_head


# The loss.


@pytest.mark.parametrize("backbone", SMALL)
def test_ragged_rows_lose_what_they_lose_alone_whatever_the_padding(objective: str, backbone: str) -> None:
    made = scrambled(objective, backbone)
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 1)])]
    alone = [made.loss(row, torch_stream("none")).parts[objective] * row.layout.width for row in rows]
    for padding in (0, 12):
        together = made.loss(right_padded(rows, padding), torch_stream("none")).parts[objective]
        torch.testing.assert_close(together, torch.stack(alone).sum() / 11)


def test_nothing_is_drawn(objective: str) -> None:
    draws = torch_stream("draws")
    build(objective, FIRST).loss(random_batch(), draws)
    assert torch.equal(draws.get_state(), torch_stream("draws").get_state())


# What reads what.


@pytest.mark.parametrize("backbone", SMALL)
def test_scores_change_only_after_the_token_is_read(objective: str, backbone: str) -> None:
    """Column 6 is the first answer token, predicted from column 5."""
    made, batch = scrambled(objective, backbone), random_batch()

    def scores(shown: Tensor) -> Tensor:
        with torch.no_grad():
            return answer_states(made.backbone, shown, batch) @ second_head(made).T

    for column in range(10):
        tokens = batch.tokens.clone()
        tokens[:, column] = (tokens[:, column] + 3) % 10
        moved = (scores(batch.tokens) != scores(tokens)).any(-1)
        assert moved.all(0).tolist() == moved.any(0).tolist() == [column <= 5 + place for place in range(4)]


def test_rows_that_share_a_prefix_lose_the_same_read_once(objective: str) -> None:
    made = scrambled(objective)
    tokens = random_batch(8, 6, 4).tokens
    tokens[1::2, :5] = tokens[::2, :5]
    tokens[:, 5] = torch.arange(8)
    apart = Batch.of(tokens, 6, 4)
    outs = [made.loss(batch, torch_stream("none")) for batch in (apart, apart.sharing(2, 5))]
    torch.testing.assert_close(outs[0].parts[objective], outs[1].parts[objective])
    torch.testing.assert_close(outs[0].per_token, outs[1].per_token)


# The second head.


@pytest.mark.parametrize("backbone", SMALL)
def test_decoding_and_forcing_are_next_tokens_own(objective: str, backbone: str) -> None:
    made, batch = scrambled(objective, backbone), random_batch()
    plain = NextToken(made.backbone, made.vocab, torch_stream("none"))
    with torch.no_grad():
        second_head(made).normal_(generator=torch_stream("other head"))
        assert torch.equal(made.generate(batch.prompts, 4), plain.generate(batch.prompts, 4))
        assert torch.equal(made.forced(batch), plain.forced(batch))
        lost, plainly = made.loss(batch, torch_stream("none")), plain.loss(batch, torch_stream("none"))
    assert torch.equal(lost.per_token, plainly.per_token)
    assert torch.equal(lost.parts["next-token"], plainly.total)


@pytest.mark.parametrize("backbone", SMALL)
def test_the_head_is_symbols_times_width(objective: str, backbone: str) -> None:
    made, plain = build(objective, backbone), build("next-token", backbone)
    added = sum(p.numel() for p in made.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == len(VOCAB) * made.backbone.width
    assert made.vocab == VOCAB


@pytest.mark.parametrize(("weight", "read"), [("0", r"0\.0"), ("-1", r"-1\.0"), ("inf", "inf"), ("nan", "nan")])
def test_impossible_weights_are_refused(objective: str, weight: str, read: str) -> None:
    with pytest.raises(RequestError, match=f"^{objective}: weight={read} must be above 0 and finite$"):
        build(f"{objective}:weight={weight}", FIRST)
