"""Masked diffusion: what is hidden, how it is weighed, what is read, and in which order answers are written."""

from __future__ import annotations

import math
from collections import Counter
from math import exp, log

import pytest
import torch
from support import SMALL, VOCAB, Stub, build, numbered, random_batch, right_padded, scramble
from torch import Tensor

from foresee.core import seeds, spec
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import LossOut, masked_diffusion, objectives
from foresee.objectives.masked_diffusion import MaskedDiffusion, Weighting, draw_mask

LEARNED = next(iter(SMALL))
ROTARY, POSITIONLESS = (next(name for name in SMALL if f"positions={kind}" in name) for kind in ("rotary", "none"))
WEIGHTINGS: tuple[Weighting, ...] = ("elbo", "mean", "mgdm")

per_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS)


def rng(*key: int) -> torch.Generator:
    return seeds.torch_stream("masked diffusion", *key)


def made(options: str = "", backbone: str = LEARNED) -> MaskedDiffusion:
    """With weights large enough that anything read shows in the output."""
    objective = build(f"masked-diffusion{options and ':'}{options}", backbone)
    assert isinstance(objective, MaskedDiffusion)
    scramble(objective)
    return objective


def read(objective: MaskedDiffusion, batch: Batch) -> tuple[Tensor, Tensor, LossOut]:
    """Tokens shown to the backbone [B, T], final states of the answer columns [B, A, D], and the loss."""
    seen: list[Tensor] = []
    embed = objective.backbone.embed

    def spy(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        return embed(tokens)

    states: list[Tensor] = []
    hook = objective.backbone.register_forward_hook(lambda _module, _inputs, output: states.append(output.detach()))
    objective.backbone.embed = spy  # type: ignore[method-assign]  # removed again below
    try:
        out = objective.loss(batch, rng())
    finally:
        hook.remove()
        del objective.backbone.embed
    (tokens,), (hidden,) = seen, states
    return tokens, hidden, out


# The loss.

# Symbols a, b and <mask>. Prompt "a", answer "b b a". Row t: probabilities at position t, whatever is read.
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
    hidden = torch.tensor([[True, False, True]]), torch.tensor([[2.0]])
    monkeypatch.setattr(masked_diffusion, "draw_mask", lambda *_: hidden)
    stub = Stub(AT_POSITION.clamp_min(1e-30).log() + 5.0, "position")
    objective = MaskedDiffusion(stub, Vocabulary(("a", "b", "<mask>")), rng(), weighting=weighting)
    out = objective.loss(BY_HAND, rng())
    assert out.per_token[0].tolist() == pytest.approx([0.0, *expected], rel=1e-5)
    assert out.total.item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    assert out.parts == {"masked-diffusion": out.total}


@per_weighting
@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
def test_the_loss_is_that_of_masked_tokens_at_the_drawn_weight(weighting: Weighting, backbone: str) -> None:
    objective, batch = made(f"weighting={weighting}", backbone), random_batch()
    masked, weight = draw_mask(batch, weighting, rng())
    _, hidden, out = read(objective, batch)
    others = [symbol for symbol in range(len(objective.vocab)) if symbol != objective.mask]
    scores = objective.backbone.logits(hidden)[..., others].log_softmax(-1).detach()
    for row in range(16):
        for column in range(4):
            loss = -scores[row, column, int(batch.answers[row, column])].item()
            factor = 0.25 * (1 - exp(-loss)) if weighting == "mgdm" else 1.0
            expected = loss * factor * weight[row].item() if masked[row, column] else 0.0
            assert out.per_token[row, 6 + column].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert out.total.item() == pytest.approx(out.per_token[:, 6:].mean().item(), rel=1e-5)


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


# What is hidden.


@per_weighting
def test_only_answer_tokens_are_ever_masked(weighting: Weighting) -> None:
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 0)] * 200)]
    batch = right_padded(rows, 0)
    masked, _ = draw_mask(batch, weighting, rng())
    in_answer = batch.in_answer()[:, batch.layout.first : batch.layout.last]
    assert not (masked & ~in_answer).any()
    assert (masked | ~in_answer)[:, 0].any()
    shares = [masked[:, column][in_answer[:, column]].float().mean().item() for column in range(in_answer.shape[1])]
    assert all(0.4 < share < 0.75 for share in shares)


@per_weighting
def test_masked_tokens_are_shown_as_masks_and_all_others_as_they_are(weighting: Weighting) -> None:
    objective, batch = made(f"weighting={weighting}"), random_batch()
    masked, _ = draw_mask(batch, weighting, rng())
    tokens, _, out = read(objective, batch)
    assert torch.equal(tokens[:, :6], batch.prompts)
    assert torch.equal(tokens[:, 6:], batch.answers.masked_fill(masked, objective.mask))
    assert torch.equal(out.per_token[:, 6:] != 0, masked)
    assert 0 < masked.sum() < masked.numel()


def test_elbo_masks_by_levels_spread_evenly_and_weighs_by_their_inverse() -> None:
    rows = 4000
    batch = Batch.of(torch.zeros(rows, 50, dtype=torch.int64), 10, 40)
    masked, weight = draw_mask(batch, "elbo", rng())
    level = 1 / weight[:, 0]
    assert ((level.sort().values - 0.001) / 0.999 * rows).floor().long().tolist() == list(range(rows))
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
    rows = 4000
    masked, weight = draw_mask(Batch.of(torch.zeros(rows, 50, dtype=torch.int64), 10, 40), "mgdm", rng())
    remaining = weight[:, 0] * masked.sum() / (rows * 40)
    step = 20 - remaining.round().long()
    torch.testing.assert_close(remaining, (20 - step).float())
    assert sorted(set(step.tolist())) == list(range(20))
    for each in range(20):
        assert masked[step == each].float().mean().item() == pytest.approx((each + 1) / 20, abs=0.03)


@per_weighting
def test_draws_differ_between_rows_and_steps(weighting: Weighting) -> None:
    batch, draws = Batch.of(torch.zeros(50, 12, dtype=torch.int64), 2, 10), rng()
    first, second = draw_mask(batch, weighting, draws)[0], draw_mask(batch, weighting, draws)[0]
    assert not torch.equal(first, second)
    assert len(set(map(tuple, first.tolist()))) > 25


def test_a_batch_without_a_masked_token_loses_nothing() -> None:
    objective = made("weighting=mgdm")
    batch = random_batch(1, 6, 1)
    totals = [objective.loss(batch, rng(number)).total.item() for number in range(40)]
    assert all(map(math.isfinite, totals))
    assert 0 < totals.count(0.0) < 40


# What is read.


@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
def test_predictions_read_shown_tokens_on_both_sides_and_no_masked_one(backbone: str) -> None:
    objective, batch = made("", backbone), random_batch()
    masked, _ = draw_mask(batch, "elbo", rng())
    _, before, _ = read(objective, batch)
    for column in range(10):
        tokens = batch.tokens.clone()
        tokens[:, column] = (tokens[:, column] + 3) % 10
        _, after, _ = read(objective, Batch.of(tokens, 6, 4))
        changed = (before != after).any(-1)
        hidden = masked[:, column - 6] if column >= 6 else torch.zeros(16, dtype=torch.bool)
        assert torch.equal(changed, ~hidden[:, None].expand(-1, 4)), f"column {column}"
    assert masked.any(0).all()
    assert (~masked).any(0).all()


@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
@pytest.mark.parametrize("padding", [0, 12])
def test_rows_of_differing_lengths_lose_what_each_loses_alone(
    backbone: str, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every_other(batch: Batch, *_: object) -> tuple[Tensor, Tensor]:
        columns = torch.arange(batch.layout.first, batch.layout.last)
        masked = batch.in_answer()[:, columns] & ((columns - batch.prompt_len[:, None]) % 2 == 0)
        return masked, batch.answer_len[:, None] / 2

    monkeypatch.setattr(masked_diffusion, "draw_mask", every_other)
    objective = made("", backbone)
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 1)])]
    together = objective.loss(right_padded(rows, padding), rng())
    alone = [objective.loss(row, rng()) for row in rows]
    for number, row in enumerate(rows):
        columns = row.tokens.shape[1]
        torch.testing.assert_close(together.per_token[number, :columns], alone[number].per_token[0])
        assert not together.per_token[number, columns:].any()
    expected = sum(out.total * row.layout.width for out, row in zip(alone, rows, strict=True)) / 11
    torch.testing.assert_close(together.total, expected)


# Decoding.


def uncovered(objective: MaskedDiffusion, prompt: Tensor, n: int, numbers: list[int]) -> list[int]:
    """One prompt [P] decoded with plain loops: ``numbers`` of tokens are written at each step."""
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
def test_the_easiest_tokens_are_written_first(backbone: str, steps: str, numbers: list[int]) -> None:
    objective, prompts = made(f"steps={steps}", backbone), random_batch().prompts
    wrote = objective.generate(prompts, 5)
    assert wrote.tolist() == [uncovered(objective, prompt, 5, numbers) for prompt in prompts]
    assert not (wrote == objective.mask).any()


@torch.no_grad()
def test_more_steps_write_other_answers() -> None:
    prompts = random_batch().prompts
    assert not torch.equal(made("steps=1").generate(prompts, 5), made("steps=5").generate(prompts, 5))


@pytest.mark.parametrize("options", ["weighting=mean,steps=1", "weighting=mgdm"])
def test_one_batch_is_memorised(options: str) -> None:
    batch, objective = random_batch(), build(f"masked-diffusion:{options}", LEARNED)
    optimiser, draws = torch.optim.AdamW(objective.parameters(), lr=3e-3), rng()
    for _ in range(300):
        optimiser.zero_grad()
        torch.autograd.backward(objective.loss(batch, draws).total)
        optimiser.step()
    assert torch.equal(objective.generate(batch.prompts, 4), batch.answers)


# Parts and refusals.


def test_it_has_no_parameters_of_its_own() -> None:
    objective = made()
    own = sum(parameter.numel() for parameter in objective.parameters())
    assert own == sum(parameter.numel() for parameter in objective.backbone.parameters())
    assert objective.vocab.symbols == (*VOCAB.symbols, "<mask>")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("steps=0", r"^masked-diffusion: steps=0 must be at least 1, or none for a token a step$"),
        ("steps=-3", r"^masked-diffusion: steps=-3 must be at least 1, or none for a token a step$"),
        ("weighting=linear", r"weighting='linear' must be one of elbo, mean, mgdm$"),
    ],
)
def test_bad_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build(f"masked-diffusion:{options}", LEARNED)


@pytest.mark.parametrize(("backbone", "missing"), [("recurrent", "LOOKAHEAD"), (POSITIONLESS, "POSITIONS")])
def test_a_backbone_that_cannot_tell_masks_apart_or_look_ahead_is_refused(backbone: str, missing: str) -> None:
    with pytest.raises(RequestError, match=rf"^objective 'masked-diffusion' needs {missing} "):
        build("masked-diffusion", backbone)


def test_the_mask_must_be_in_the_vocabulary() -> None:
    backbone = build("next-token", LEARNED).backbone
    with pytest.raises(RequestError, match="symbol '<mask>' is not in the vocabulary"):
        spec.resolve(objectives, "masked-diffusion").build(backbone, VOCAB, rng())
