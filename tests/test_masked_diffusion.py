"""Masked diffusion: what is masked, how it is weighed, what is read, and in which order answers are filled in."""

from __future__ import annotations

import math
from collections import Counter
from math import log
from typing import Any

import pytest
import torch
from objective_support import LEARNED, ROTARY, assert_loss, change, head_outputs, rng, scrambled
from support import Stub, numbered, random_batch, right_padded
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import masked_diffusion
from foresee.objectives.masked_diffusion import MaskedDiffusion, Weighting, draw_mask

WEIGHTINGS: tuple[Weighting, ...] = ("elbo", "mean", "mgdm")
per_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS)


BY_HAND = Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3)

AT_POSITION = torch.tensor([[1 / 2, 1 / 2, 0.0], [1 / 8, 5 / 8, 1 / 4], [1 / 3, 1 / 3, 1 / 3], [3 / 5, 1 / 5, 1 / 5]])


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        # The first and last answer token are masked, at weight 2. No place holds a mask: b has 5/6, and a 3/4.
        ("elbo", [2 * log(6 / 5), 0.0, 2 * log(4 / 3)]),
        ("mean", [2 * log(6 / 5), 0.0, 2 * log(4 / 3)]),
        # The focal factor is 0.25 (1 - p).
        ("mgdm", [2 * log(6 / 5) * 0.25 * (1 / 6), 0.0, 2 * log(4 / 3) * 0.25 * (1 / 4)]),
    ],
)
def test_loss_by_hand(weighting: Weighting, expected: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.tensor([[True, False, True]]), torch.tensor([[2.0]])
    monkeypatch.setattr(masked_diffusion, "draw_mask", lambda *_: drawn)
    stub = Stub(AT_POSITION.clamp_min(1e-30).log() + 5.0, "position")
    objective = MaskedDiffusion(stub, Vocabulary(("a", "b", "<mask>")), rng(), weighting=weighting)
    out = objective.loss(BY_HAND, rng())
    assert_loss(out, {"masked-diffusion": sum(expected) / 3}, expected)


@pytest.mark.parametrize("weighting", ["elbo", "mean"])
def test_both_bounds_have_the_same_expectation(weighting: Weighting) -> None:
    """Predictions that do not depend on what is shown lose, on average, what they would if all were masked."""
    table = torch.randn(13, 13, generator=rng())
    vocab = numbered(12).extended(["<mask>"])
    objective = MaskedDiffusion(Stub(table, "position"), vocab, rng(), weighting=weighting)
    batch = random_batch(1, prompt=3, answer=3)
    many = Batch.of(batch.tokens.expand(20_000, -1), 3, 3)
    plain = -table[3:6, :12].log_softmax(-1)[torch.arange(3), batch.answers[0]].mean().item()
    assert objective.loss(many, rng()).total.item() == pytest.approx(plain, rel=0.03)


@per_weighting
def test_only_answer_tokens_are_ever_masked(weighting: Weighting) -> None:
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 0)] * 200)]
    batch = right_padded(rows, 0)
    masked, _ = draw_mask(batch, weighting, rng())
    in_answer = batch.in_answer()[:, batch.layout.first : batch.layout.last]
    assert not (masked & ~in_answer).any()
    assert (masked | ~in_answer)[:, 0].any()
    shares = [masked[:, column][in_answer[:, column]].float().mean().item() for column in range(in_answer.shape[1])]
    assert all(0.4 < share < 0.85 for share in shares)


def test_elbo_masks_by_levels_spread_evenly_and_weighs_by_their_inverse() -> None:
    rows = 4000
    batch = Batch.of(torch.zeros(rows, 50, dtype=torch.int64), 10, 40)
    masked, weight = draw_mask(batch, "elbo", rng())
    level = 1 / weight[:, 0]
    within = (level.sort().values - 0.001) / 0.999 * rows - torch.arange(rows)
    assert ((within > -0.01) & (within < 1.01)).all()
    assert not torch.equal(level.argsort(), torch.arange(rows))
    share = masked.float().mean(1)
    assert ((share - level).abs() < 5 * (level * (1 - level) / 40).sqrt() + 0.05).all()
    assert share.mean().item() == pytest.approx(0.5, abs=0.01)


def test_mean_masks_any_number_of_tokens_alike_and_at_least_one() -> None:
    rows = 12_000
    masked, weight = draw_mask(Batch.of(torch.zeros(rows, 5, dtype=torch.int64), 2, 3), "mean", rng())
    number = masked.sum(1)
    torch.testing.assert_close(weight[:, 0] * number, torch.full((rows,), 3.0))
    subsets = Counter(map(tuple, masked.tolist()))
    expected = {size: 1 / 3 / math.comb(3, size) for size in (1, 2, 3)}
    assert len(subsets) == 7
    for subset, times in subsets.items():
        assert times / rows == pytest.approx(expected[sum(subset)], abs=0.015)


def test_mgdm_masks_by_twenty_levels_and_weighs_the_lowest_most() -> None:
    """A batch without a masked token loses nothing."""
    rows = 4000
    masked, weight = draw_mask(Batch.of(torch.zeros(rows, 50, dtype=torch.int64), 10, 40), "mgdm", rng())
    remaining = weight[:, 0] * masked.sum() / (rows * 40)
    step = 20 - remaining.round().long()
    torch.testing.assert_close(remaining, (20 - step).float())
    assert sorted(set(step.tolist())) == list(range(20))
    for each in range(20):
        assert masked[step == each].float().mean().item() == pytest.approx((each + 1) / 20, abs=0.03)
    objective, batch = scrambled("masked-diffusion:weighting=mgdm"), random_batch(1, 6, 1)
    totals = [objective.loss(batch, rng(number)).total.item() for number in range(40)]
    assert all(map(math.isfinite, totals))
    assert 0 < totals.count(0.0) < 40


@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
def test_predictions_read_known_tokens_on_both_sides_and_no_masked_one(backbone: str) -> None:
    made, batch = scrambled("masked-diffusion:weighting=elbo", backbone), random_batch()
    masked, _ = draw_mask(batch, "elbo", rng())
    (before,) = head_outputs(made, batch)
    for column in range(10):
        (after,) = head_outputs(made, change(batch, column))
        unread = masked[:, column - 6] if column >= 6 else torch.zeros(16, dtype=torch.bool)
        assert torch.equal((before != after).any(-1), ~unread[:, None].expand(-1, 4)), f"column {column}"
    assert masked.any(0).all()
    assert (~masked).any(0).all()


def filled(objective: Any, prompt: Tensor, n: int, numbers: list[int]) -> list[int]:
    """One prompt [P] decoded with plain loops: ``numbers`` of tokens are filled in at each step."""
    tokens = prompt.tolist() + [objective.mask] * n
    for number in numbers:
        hidden = objective.backbone(objective.backbone.embed(torch.tensor([tokens])), attend="full")
        scores = objective.backbone.logits(hidden)[0]
        scores[:, objective.mask] = -math.inf
        best = [
            (scores[place].softmax(-1).max().item(), place)
            for place in range(len(prompt), len(tokens))
            if tokens[place] == objective.mask
        ]
        for _, place in sorted(best, reverse=True)[:number]:
            tokens[place] = int(scores[place].argmax())
    return tokens[len(prompt) :]


@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
@pytest.mark.parametrize(
    ("steps", "numbers"),
    [("none", [1] * 5), ("5", [1] * 5), ("9", [1] * 5), ("3", [1, 2, 2]), ("2", [2, 3]), ("1", [5])],
)
@torch.no_grad()
def test_the_easiest_tokens_are_filled_in_first(backbone: str, steps: str, numbers: list[int]) -> None:
    objective, prompts = scrambled(f"masked-diffusion:steps={steps}", backbone), random_batch().prompts
    answers = objective.generate(prompts, 5)
    assert answers.tolist() == [filled(objective, prompt, 5, numbers) for prompt in prompts]
    assert not (answers == objective.mask).any()
