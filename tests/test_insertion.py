"""Insertion: what is dropped, where each dropped token belongs, and in which order tokens come back."""

from __future__ import annotations

from collections import Counter
from math import comb, exp, log
from typing import Any

import pytest
import torch
from objective_support import LEARNED, ROTARY, assert_loss, change, inputs_of, ragged_rows, rng, scrambled
from support import Stub, random_batch, right_padded
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import insertion
from foresee.objectives.insertion import Insertion, draw_dropped, insert

per_backbone = pytest.mark.parametrize("backbone", [LEARNED, ROTARY])


def test_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a, b, b, a after one prompt token the first, third and fourth are dropped: b is left, with a before it and b
    and a after it."""
    dropped = torch.tensor([[True, False, True, True]])
    monkeypatch.setattr(insertion, "draw_dropped", lambda *_: (dropped, 0))
    table = torch.tensor([[1.0, 2.0], [4.0, 5.0]]).repeat_interleave(torch.tensor([1, 4]), 0)
    objective = Insertion(Stub(table.log(), "position"), Vocabulary(("a", "b")), rng())
    with torch.no_grad():
        objective.stop_head.fill_(0.0)[0, 0] = 2.0
    out = objective.loss(Batch.of(torch.tensor([[0, 0, 1, 1, 0]]), 1, 4), rng())
    # One softmax over both places: a, b at either have 1, 2, 4 and 5 of 12. Three of four tokens: weight 4/3.
    expected = [4 / 3 * log(12 / 1), 0.0, 4 / 3 * log(12 / 5), 4 / 3 * log(12 / 4)]
    assert_loss(out, {"insertion": sum(expected) / 4, "stop": log(1 + exp(-2.0))}, expected)


def test_any_number_of_tokens_is_dropped_alike() -> None:
    rows = 12_000
    dropped, least = draw_dropped(Batch.of(torch.zeros(rows, 5, dtype=torch.int64), 2, 3), rng())
    assert least == 0
    subsets = Counter(map(tuple, dropped.tolist()))
    assert len(subsets) == 8
    for subset, times in subsets.items():
        assert times / rows == pytest.approx(1 / 4 / comb(3, sum(subset)), abs=0.015)
    ragged = right_padded([*ragged_rows(), random_batch(1, 3, 0)] * 50, 0)
    dropped, least = draw_dropped(ragged, rng())
    in_answer = ragged.in_answer()[:, ragged.layout.first : ragged.layout.last]
    assert (least, bool((dropped & ~in_answer).any())) == (0, False)


def score_by_hand(made: Any, prompt: Tensor, left: list[int]) -> Tensor:
    """[K, V]: log-probabilities of what to insert after the prompt and after each of the tokens left."""
    tokens = torch.tensor([[*prompt.tolist(), *left]])
    states = made.backbone(made.backbone.embed(tokens), attend="full")
    logits: Tensor = made.backbone.logits(states)[0, len(prompt) - 1 :]
    return logits.flatten().log_softmax(0).view_as(logits)


@per_backbone
@torch.no_grad()
def test_each_row_loses_what_it_loses_alone_without_the_dropped_tokens(backbone: str) -> None:
    made, batch = scrambled("insertion", backbone), right_padded(ragged_rows() * 3, 12)
    dropped, _ = draw_dropped(batch, rng())
    out, first = made.loss(batch, rng()), batch.layout.first
    for row, (prompt, answer) in enumerate(batch.pairs()):
        gone = dropped[row, len(prompt) - first :][: len(answer)].tolist()
        left = [token for token, out in zip(answer, gone, strict=True) if not out]
        scores = score_by_hand(made, torch.tensor(prompt), left)
        for place, token in enumerate(answer):
            found = out.per_token[row, len(prompt) + place].item()
            expected = -scores[place - sum(gone[:place]), token].item() * len(answer) / max(sum(gone), 1)
            assert found == pytest.approx(expected if gone[place] else 0.0, rel=1e-4, abs=1e-6)


@per_backbone
@torch.no_grad()
def test_dropped_tokens_are_predicted_and_never_read(backbone: str) -> None:
    made, batch = scrambled("insertion", backbone), random_batch()
    dropped, _ = draw_dropped(batch, rng())
    before = made.loss(batch, rng()).per_token[:, 6:]
    for column in range(4):
        after = made.loss(change(batch, 6 + column), rng()).per_token[:, 6:]
        gone = dropped[:, column]
        others = [each for each in range(4) if each != column]
        assert torch.equal(before[gone][:, others], after[gone][:, others])
        assert ((before != after) == dropped)[~gone].all()
    assert dropped.any(0).all()
    assert (~dropped).any(0).all()


def test_one_row_is_shortened_and_not_padded_and_a_token_is_put_before_its_place() -> None:
    made, batch = scrambled("insertion"), random_batch(1)
    for seed in range(20):
        dropped, least = draw_dropped(batch, rng(seed))
        left = batch.answers[0][~dropped[0]].tolist()
        assert inputs_of(made, batch, rng(seed))[0].tolist() == [*batch.prompts[0].tolist(), *left]
        assert least == dropped.sum()
    answers = torch.tensor([[1, 2], [3, 4], [5, 6]])
    found = insert(answers, torch.tensor([0, 1, 2]), torch.tensor([7, 8, 9]))
    assert found.tolist() == [[7, 1, 2], [3, 8, 4], [5, 6, 9]]


@per_backbone
@torch.no_grad()
def test_the_likeliest_place_and_token_are_inserted_each_time(backbone: str) -> None:
    made, prompts = scrambled("insertion", backbone), random_batch().prompts
    answers = made.generate(prompts, 5)
    orders = set()
    for prompt, answer in zip(prompts, answers.tolist(), strict=True):
        left, passes = list[int](), list[int]()
        for number in range(5):
            scores = score_by_hand(made, prompt, left)
            slot, token = divmod(int(scores.argmax()), scores.shape[1])
            left.insert(slot, token)
            passes.insert(slot, number + 1)
        assert left == answer
        trace = made.trace(prompt[None], 5)
        assert (trace.passes.tolist(), trace.log_probs.argmax(-1).tolist()) == (passes, answer)
        orders.add(tuple(passes))
    assert len(orders) > 2
