"""What every objective owes on every backbone, and what each of the three is in particular."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from support import SMALL, VOCAB, Unreadable, build, distinct_rows, random_batch, right_padded, scramble
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Cap
from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.metrics.passes import predict_answers
from foresee.objectives import LossOut, Objective, objectives
from foresee.objectives.reversed import flip_answers

OBJECTIVES = [*objectives.names(), "teacherless:hybrid=0.5", "next-latent:latents=answer"]


def lacking(objective: str, backbone: str) -> str | None:
    """Why an objective is refused on a backbone, or None."""
    try:
        build(objective, backbone)
    except RequestError as error:
        return str(error)
    return None


EVERY_PAIR = [(objective, backbone) for objective in OBJECTIVES for backbone in SMALL]
PAIRS = [pair for pair in EVERY_PAIR if lacking(*pair) is None]
FIRST = next(iter(SMALL))


def identify(value: Any) -> str:
    """Short test names."""
    text = str(value)
    return next((kind for kind in ("rotary", "none") if f"positions={kind}" in text), text.partition(":layers")[0])


def rng(seed: int = 0) -> torch.Generator:
    return seeds.torch_stream("objective", seed)


def draws(objective: str) -> bool:
    """Whether its loss draws numbers: then only some tokens lose something at a time, and rows cannot be compared with
    the same rows alone."""
    made = build(objective, next(backbone for name, backbone in PAIRS if name == objective))
    unused, used = rng(), rng()
    made.loss(random_batch(), used)
    return not torch.equal(unused.get_state(), used.get_state())


DRAWING = {objective for objective in OBJECTIVES if draws(objective)}
per_pair = pytest.mark.parametrize(("objective", "backbone"), PAIRS, ids=identify)
per_objective = pytest.mark.parametrize("objective", OBJECTIVES)


def scrambled(objective: str, backbone: str = FIRST) -> Objective:
    """With weights large enough that anything read shows in the output."""
    made = build(objective, backbone)
    scramble(made)
    return made


def with_answer(batch: Batch, column: int) -> Batch:
    """The batch with the answer token at ``column`` (of the answer) replaced by another digit in every row."""
    tokens = batch.tokens.clone()
    tokens[:, batch.layout.first + column] = (tokens[:, batch.layout.first + column] + 3) % 10
    return dataclasses.replace(batch, tokens=tokens)


# The loss.


@pytest.mark.parametrize(("objective", "backbone"), EVERY_PAIR, ids=identify)
def test_a_pair_works_or_is_refused_by_name(objective: str, backbone: str) -> None:
    reason = lacking(objective, backbone)
    needs = objectives.get(objective.partition(":")[0]).needs
    if reason is None:
        assert needs <= build(objective, backbone).backbone.has
    else:
        assert repr(objective.partition(":")[0]) in reason
        assert repr(backbone) in reason
        assert any(cap.name in reason and cap.value in reason for cap in needs)


@per_pair
def test_loss_is_finite_and_its_parts_add_up(objective: str, backbone: str) -> None:
    batch, made = random_batch(), build(objective, backbone)
    out = made.loss(batch, rng())
    assert out.total.shape == ()
    assert out.total.isfinite()
    assert not any(part.shape for part in out.parts.values())
    torch.testing.assert_close(torch.stack(list(out.parts.values())).sum(), out.total)
    assert out.per_token.shape == batch.tokens.shape
    assert not out.per_token.requires_grad
    assert not out.per_token[~batch.in_answer()].any()
    assert out.per_token[batch.in_answer()].any()
    if objective not in DRAWING:
        assert (out.per_token != 0).equal(batch.in_answer())
    if objective not in DRAWING and len(out.parts) == 1:
        torch.testing.assert_close(out.per_token[batch.in_answer()].mean(), out.total.detach())


@per_pair
def test_a_gradient_reaches_every_parameter(objective: str, backbone: str) -> None:
    made = build(objective, backbone)
    torch.autograd.backward(made.loss(random_batch(), rng()).total)
    still = [
        name
        for name, parameter in made.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert not still


@per_pair
def test_the_same_stream_gives_the_same_loss_and_gradients(objective: str, backbone: str) -> None:
    def outcome() -> list[Tensor]:
        made = build(objective, backbone)
        out = made.loss(random_batch(), rng())
        return [out.total, out.per_token, *torch.autograd.grad(out.total, list(made.parameters()))]

    assert all(torch.equal(first, again) for first, again in zip(outcome(), outcome(), strict=True))


@per_objective
def test_facts_are_never_read(objective: str) -> None:
    batch, made = random_batch(), build(objective, FIRST)
    blind = Batch(batch.tokens, batch.prompt_len, batch.answer_len, batch.layout, Unreadable())
    assert torch.equal(made.loss(blind, rng()).total, made.loss(batch, rng()).total)
    made.forced(blind)


@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize(("objective", "backbone"), [pair for pair in PAIRS if pair[0] not in DRAWING], ids=identify)
def test_rows_of_differing_lengths_lose_what_each_loses_alone(objective: str, backbone: str, padding: int) -> None:
    made = build(objective, backbone)
    scramble(made)
    shapes = [(3, 4), (6, 2), (4, 4), (3, 1)]
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate(shapes)]
    together = made.loss(right_padded(rows, padding), rng())
    alone = [made.loss(row, rng()) for row in rows]
    for number, row in enumerate(rows):
        columns = row.tokens.shape[1]
        torch.testing.assert_close(together.per_token[number, :columns], alone[number].per_token[0])
        assert not together.per_token[number, columns:].any()
    if len(together.parts) == 1:
        tokens = sum(row.layout.width for row in rows)
        expected = sum(out.total * row.layout.width for out, row in zip(alone, rows, strict=True)) / tokens
        torch.testing.assert_close(together.total, expected)


RAGGED = [(3, 4), (6, 2), (4, 4), (3, 1), (6, 4), (4, 2)]
"""Prompt and answer lengths of a batch whose rows differ in both."""


def ragged_batch(padding: int = 0) -> Batch:
    return right_padded([random_batch(1, *shape, seed=number) for number, shape in enumerate(RAGGED)], padding)


@per_pair
def test_padding_has_no_say_in_a_ragged_batch(objective: str, backbone: str) -> None:
    """Whatever it holds, the loss, its parts and its gradients are the same, and no padding has a loss."""
    outcomes = []
    for padding in (0, 12):
        made, batch = build(objective, backbone), ragged_batch(padding)
        out = made.loss(batch, rng())
        assert out.total.isfinite()
        torch.testing.assert_close(torch.stack(list(out.parts.values())).sum(), out.total)
        assert out.per_token.shape == batch.tokens.shape
        assert not out.per_token[~batch.in_answer()].any()
        assert out.per_token[batch.in_answer()].any()
        torch.autograd.backward(out.total)
        gradients = [parameter.grad for parameter in made.parameters() if parameter.grad is not None]
        outcomes.append([out.total, *out.parts.values(), out.per_token, *gradients])
    first, other = outcomes
    assert len(first) == len(other)
    assert all(each.isfinite().all() for each in first)
    for each, again in zip(first, other, strict=True):
        torch.testing.assert_close(each, again, rtol=1e-5, atol=1e-6)


@per_pair
def test_one_ragged_batch_is_memorised(objective: str, backbone: str) -> None:
    batch, made, draws = ragged_batch(12), build(objective, backbone), rng()
    optimiser = torch.optim.AdamW(made.parameters(), lr=5e-3)
    answers = batch.padded_answers()
    for step in range(600):
        optimiser.zero_grad()
        torch.autograd.backward(made.loss(batch, draws).total)
        optimiser.step()
        if step % 20 == 19 and torch.equal(predict_answers(made, batch, 16), answers):
            break
    assert torch.equal(predict_answers(made, batch, 16), answers)


# Forcing and decoding.


@per_pair
def test_forcing_reveals_no_token_before_its_turn(objective: str, backbone: str) -> None:
    made, batch = scrambled(objective, backbone), random_batch()
    with torch.no_grad():
        before = made.forced(batch)
        assert (before is None) == (made.order == "parallel")
        if before is None:
            return
        assert before.shape == (16, 4, len(made.vocab))
        torch.testing.assert_close(before.logsumexp(-1), torch.zeros(16, 4), rtol=0, atol=1e-5)
        for column in range(4):
            after = made.forced(with_answer(batch, column))
            assert after is not None
            same = [bool(torch.equal(before[:, t], after[:, t])) for t in range(4)]
            later = range(column + 1, 4) if made.order == "forward" else range(column)
            assert same == [t not in later for t in range(4)]


@per_objective
def test_forcing_reads_the_prompt(objective: str) -> None:
    made, batch = scrambled(objective), random_batch()
    before = made.forced(batch)
    if before is None:
        assert made.order == "parallel"
        return
    for column in range(6):
        after = made.forced(with_answer(batch, column - 6))
        assert after is not None
        assert (after != before).any(-1).all(), f"prompt column {column} changes nothing"


@per_objective
def test_forcing_refuses_rows_of_differing_lengths(objective: str) -> None:
    made = build(objective, FIRST)
    ragged = right_padded([random_batch(1, 3, 4), random_batch(1, 6, 2)], 0)
    if made.order == "parallel":
        assert made.forced(ragged) is None
    else:
        with pytest.raises(ValueError, match="split the batch by length"):
            made.forced(ragged)


@per_pair
def test_decoding_takes_the_likeliest_token_each_time(objective: str, backbone: str) -> None:
    """What was written is the largest of what forcing gives for it, place by place."""
    made, prompts = scrambled(objective, backbone), random_batch().prompts
    with torch.no_grad():
        wrote = made.generate(prompts, 4)
        assert wrote.shape == (16, 4)
        assert wrote.dtype == torch.int64
        assert made.generate(prompts, 0).shape == (16, 0)
        forced = made.forced(Batch.of(torch.cat((prompts, wrote), 1), 6, 4))
        if forced is not None:
            assert torch.equal(forced.argmax(-1), wrote)
        # Where every place reads every other, another length is another canvas, which may be filled otherwise.
        for n in range(1, 4) if Cap.LOOKAHEAD not in made.needs else ():
            part = made.generate(prompts, n)
            assert torch.equal(part, wrote[:, 4 - n :] if made.order == "backward" else wrote[:, :n])
        if made.order == "forward":
            assert torch.equal(made.continue_answer(prompts, wrote[:, :2], 2), wrote[:, 2:])
    assert len(distinct_rows(wrote)) > 1


@per_objective
def test_one_batch_is_memorised_in_the_tasks_own_order(objective: str) -> None:
    """On one backbone; ``test_one_ragged_batch_is_memorised`` has every pair."""
    batch, made = random_batch(), build(objective, FIRST)
    optimiser = torch.optim.AdamW(made.parameters(), lr=3e-3)
    draws = rng()
    for step in range(600):
        optimiser.zero_grad()
        torch.autograd.backward(made.loss(batch, draws).total)
        optimiser.step()
        if step % 25 == 24 and torch.equal(made.generate(batch.prompts, 4), batch.answers):
            break
    assert torch.equal(made.generate(batch.prompts, 4), batch.answers)


# Reversed.


def test_reversed_is_next_token_on_a_batch_reversed_by_hand() -> None:
    batch = random_batch()
    by_hand = Batch.of(torch.cat((batch.prompts, batch.answers.flip(1)), 1), 6, 4)
    backwards, forwards = scrambled("reversed"), scrambled("next-token")
    assert torch.equal(flip_answers(batch).tokens, by_hand.tokens)
    out, expected = backwards.loss(batch, rng()), forwards.loss(by_hand, rng())
    assert torch.equal(out.total, expected.total)
    assert torch.equal(out.per_token[:, 6:].flip(1), expected.per_token[:, 6:])
    forced, reference = backwards.forced(batch), forwards.forced(by_hand)
    assert forced is not None
    assert reference is not None
    assert torch.equal(forced.flip(1), reference)
    assert torch.equal(backwards.generate(batch.prompts, 4).flip(1), forwards.generate(batch.prompts, 4))


def test_flipping_is_its_own_inverse_and_leaves_prompts_and_padding() -> None:
    batch = right_padded([random_batch(1, 3, 4), random_batch(1, 6, 2), random_batch(1, 2, 0)], 11)
    once = flip_answers(batch)
    assert torch.equal(flip_answers(once).tokens, batch.tokens)
    outside = ~batch.in_answer()
    assert torch.equal(once.tokens[outside], batch.tokens[outside])
    assert once.tokens[0, 3:7].tolist() == batch.tokens[0, 3:7].flip(0).tolist()


# Teacherless.


def shown(objective: Objective, batch: Batch, draws: torch.Generator) -> tuple[Tensor, Tensor, LossOut]:
    """What the backbone was shown [B, T - 1], what came out of it [B, A, D], and the loss."""
    seen: list[Tensor] = []
    embed = objective.backbone.embed

    def spy(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        return embed(tokens)

    objective.backbone.embed = spy  # type: ignore[method-assign]  # removed again below
    outputs: list[Tensor] = []
    hook = objective.backbone.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.detach()))
    try:
        out = objective.loss(batch, draws)
    finally:
        hook.remove()
        del objective.backbone.embed
    return seen[0], outputs[0], out


def test_teacherless_shows_the_prompt_and_dummies() -> None:
    made, batch = scrambled("teacherless"), random_batch()
    dummy = made.vocab.token("$")
    assert made.vocab.symbols == (*VOCAB.symbols, "$")
    inputs, _, _ = shown(made, batch, rng())
    assert torch.equal(inputs[:, :6], batch.prompts)
    assert (inputs[:, 5] == VOCAB.token("=")).all()
    assert inputs[:, 6:].tolist() == [[dummy] * 3] * 16


@pytest.mark.parametrize("column", range(4))
def test_no_answer_token_reaches_any_teacherless_prediction(column: int) -> None:
    made, batch = scrambled("teacherless"), random_batch()
    _, hidden, out = shown(made, batch, rng())
    _, again, changed = shown(made, with_answer(batch, column), rng())
    assert torch.equal(hidden, again)
    assert (out.per_token != changed.per_token).any(0).nonzero().flatten().tolist() == [6 + column]


def test_teacherless_decodes_what_it_was_trained_to() -> None:
    """One pass at decoding is the pass of training."""
    made, batch = scrambled("teacherless"), random_batch()
    with torch.no_grad():
        _, hidden, _ = shown(made, batch, rng())
        assert torch.equal(made.generate(batch.prompts, 4), made.backbone.logits(hidden).argmax(-1))


def test_without_hybrid_nothing_is_drawn() -> None:
    draws = rng()
    build("teacherless:hybrid=0", FIRST).loss(random_batch(), draws)
    assert torch.equal(draws.get_state(), rng().get_state())


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_hybrid_leaves_a_share_of_rows_teacher_forced(share: float) -> None:
    made, batch = build(f"teacherless:hybrid={share}", FIRST), random_batch(rows=400, prompt=8)
    dummy = made.vocab.token("$")
    draws = rng()
    forced_rows = []
    for _ in range(2):
        inputs, _, out = shown(made, batch, draws)
        hidden = inputs[:, 8:] == dummy
        assert torch.equal(hidden.any(1), hidden.all(1))  # whole rows
        assert torch.equal(inputs[~hidden.any(1)], batch.tokens[~hidden.any(1), :-1])
        assert (out.per_token[:, 8:] > 0).all()
        forced_rows.append(~hidden.any(1))
    spread = 4 * math.sqrt(share * (1 - share) / 400)
    assert all(rows.float().mean().item() == pytest.approx(share, abs=spread) for rows in forced_rows)
    assert not torch.equal(*forced_rows)


def test_each_hybrid_row_loses_what_its_kind_loses() -> None:
    """Next-token on rows left as they are, teacherless on the others; same weights."""
    batch = random_batch()
    mixed, plain = scrambled("teacherless:hybrid=0.5"), scrambled("teacherless")
    inputs, _, out = shown(mixed, batch, rng())
    forced = inputs[:, 6:].ne(mixed.vocab.token("$")).any(1)
    assert 0 < forced.sum() < 16
    expected = plain.loss(batch, rng()).per_token
    logits = mixed.backbone.logits(mixed.backbone(mixed.backbone.embed(batch.tokens)))[:, 5:-1]
    teacher = functional.cross_entropy(logits.transpose(1, 2), batch.answers, reduction="none")
    torch.testing.assert_close(out.per_token[~forced], expected[~forced])
    torch.testing.assert_close(out.per_token[forced, 6:], teacher[forced].detach())


@pytest.mark.parametrize("share", ["-0.1", "1", "1.5", "nan"])
def test_an_impossible_share_is_refused(share: str) -> None:
    with pytest.raises(RequestError, match=r"^teacherless: hybrid=.* must be at least 0 and below 1$"):
        build(f"teacherless:hybrid={share}", FIRST)


def test_teacherless_needs_its_dummy_in_the_vocabulary() -> None:
    backbone = build("next-token", FIRST).backbone
    with pytest.raises(RequestError, match=r"symbol '\$' is not in the vocabulary"):
        objectives.get("teacherless")(backbone, VOCAB, rng())


@per_objective
def test_what_is_written_first_does_not_depend_on_how_much_is_asked_for(objective: str) -> None:
    """Measuring rows of several answer lengths at once rests on it."""
    made = scrambled(objective).eval()
    prompts = random_batch().prompts
    with torch.inference_mode():
        short, long = made.generate(prompts, 2), made.generate(prompts, 5)
    if made.order == "forward":
        assert short.equal(long[:, :2])
    elif made.order == "backward":
        assert short.equal(long[:, 3:])
