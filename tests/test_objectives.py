"""What every objective owes on every backbone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from objective_support import (
    LEARNED,
    OBJECTIVES,
    ROTARY,
    change,
    draws,
    ragged_batch,
    ragged_rows,
    rng,
    scrambled,
    shared_batch,
)
from refusals import refused
from support import SMALL, VOCAB, Unreadable, build, distinct_rows, random_batch, right_padded
from torch.overrides import TorchFunctionMode

from foresee.backbones import Backbone
from foresee.core import spec
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.metrics.passes import predict_answers
from foresee.objectives import objectives
from foresee.objectives.next_token import NextToken


def lacking(objective: str, backbone: str) -> str | None:
    """Why an objective is refused on a backbone, or None."""
    try:
        build(objective, backbone)
    except RequestError as error:
        return str(error)
    return None


def identify(value: Any) -> str:
    """Short test names."""
    text = str(value)
    return next((kind for kind in ("rotary", "none") if f"positions={kind}" in text), text.partition(":layers")[0])


EVERY_PAIR = [(name, backbone) for name in objectives.names() for backbone in SMALL]
EVERY_PAIR += [(variant, LEARNED) for variant in OBJECTIVES if ":" in variant]
PAIRS = [pair for pair in EVERY_PAIR if lacking(*pair) is None]
DRAWING = {objective for objective in OBJECTIVES if draws(objective)}
per_pair = pytest.mark.parametrize(("objective", "backbone"), PAIRS, ids=identify)
per_steady_pair = pytest.mark.parametrize(
    ("objective", "backbone"), [pair for pair in PAIRS if pair[0] not in DRAWING], ids=identify
)
per_objective = pytest.mark.parametrize("objective", OBJECTIVES)


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


# The loss.


@per_pair
def test_losses_add_up_teach_every_parameter_and_follow_from_the_stream(objective: str, backbone: str) -> None:
    batch, outcomes = random_batch(), []
    for _ in range(2):
        made = build(objective, backbone)
        out = made.loss(batch, rng())
        assert out.total.shape == ()
        assert not any(part.shape for part in out.parts.values())
        torch.testing.assert_close(torch.stack(list(out.parts.values())).sum(), out.total)
        assert out.per_token.shape == batch.tokens.shape
        assert not out.per_token.requires_grad
        assert not out.per_token[~batch.in_answer()].any()
        assert out.per_token[batch.in_answer()].any()
        if objective not in DRAWING:
            assert (out.per_token != 0).equal(batch.in_answer())
            if len(out.parts) == 1:
                torch.testing.assert_close(out.per_token[batch.in_answer()].mean(), out.total.detach())
        torch.autograd.backward(out.total)
        gradients = {name: parameter.grad for name, parameter in made.named_parameters()}
        assert [
            name for name, each in gradients.items() if each is None or not each.isfinite().all() or not each.any()
        ] == []
        outcomes.append([out.total, out.per_token, *gradients.values()])
    assert all(map(torch.equal, *outcomes))


class Watched(TorchFunctionMode):
    """Sees to it that whatever is drawn is drawn where the generator lies."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (kwargs or {}).get("generator") is not None:
            assert kwargs.get("device") == kwargs["generator"].device, (
                f"{func} draws on the CPU whatever the generator's"
            )
        return func(*args, **(kwargs or {}))


@per_objective
def test_facts_are_never_read_and_draws_are_the_generators(objective: str) -> None:
    batch, made = random_batch(), build(objective, LEARNED)
    blind = Batch(batch.tokens, batch.prompt_len, batch.answer_len, batch.layout, Unreadable())
    expected, counted, used = made.loss(batch, rng()).total, rng(), rng()
    with Watched():
        assert torch.equal(made.loss(blind, used).total, expected)
        if made.count_terms(blind, counted):
            assert torch.equal(counted.get_state(), used.get_state())
    made.forced(blind)


@per_pair
def test_padding_has_no_say_in_a_ragged_batch(objective: str, backbone: str) -> None:
    """Whatever it holds, the loss, its parts and its gradients are the same, and no padding has a loss."""
    outcomes = []
    for padding in (0, 12):
        made, batch = build(objective, backbone), ragged_batch(padding)
        out = made.loss(batch, rng())
        torch.testing.assert_close(torch.stack(list(out.parts.values())).sum(), out.total)
        assert out.per_token.shape == batch.tokens.shape
        assert not out.per_token[~batch.in_answer()].any()
        assert out.per_token[batch.in_answer()].any()
        gradients = torch.autograd.grad(out.total, list(made.parameters()), materialize_grads=True)
        outcomes.append([out.total, *out.parts.values(), out.per_token, *gradients])
    assert all(each.isfinite().all() for each in outcomes[0])
    for each, again in zip(*outcomes, strict=True):
        torch.testing.assert_close(each, again, rtol=1e-5, atol=1e-6)


@per_steady_pair
def test_ragged_rows_lose_what_each_loses_alone(objective: str, backbone: str) -> None:
    made, rows = scrambled(objective, backbone), ragged_rows()
    together, alone = made.loss(right_padded(rows, 12), rng()), [made.loss(row, rng()) for row in rows]
    for number, row in enumerate(rows):
        columns = row.tokens.shape[1]
        torch.testing.assert_close(together.per_token[number, :columns], alone[number].per_token[0])
    terms = [made.count_terms(row, rng()) for row in rows]
    for name, part in together.parts.items():
        if name in ("latent", "kl"):  # a mean over the steps rolled of means over places, and so neither over all
            continue
        counts = torch.stack(
            [torch.as_tensor(each.get(name, row.layout.width)) for each, row in zip(terms, rows, strict=True)]
        )
        sums = torch.stack([out.parts[name] for out in alone]) * counts
        torch.testing.assert_close(part, sums.sum() / counts.sum())


@per_objective
def test_a_prefix_that_rows_share_changes_no_loss(objective: str) -> None:
    if objective.startswith("future-insertion"):
        pytest.skip("rows that share a prefix are drawn together")
    for backbone in (LEARNED, ROTARY):
        made, batch = scrambled(objective, backbone), shared_batch()
        apart, together = (made.loss(each, rng()) for each in (batch, batch.sharing(2, 5)))
        torch.testing.assert_close(together.per_token, apart.per_token, rtol=1e-4, atol=1e-4)
        for name, part in apart.parts.items():
            torch.testing.assert_close(together.parts[name], part, rtol=1e-4, atol=1e-4)


@per_objective
def test_saving_memory_and_bfloat16_leave_gradients(objective: str) -> None:
    found = []
    for recompute, precise in ((False, True), (True, True), (False, False)):
        made = build(objective, LEARNED)
        for module in made.modules():
            if isinstance(module, Backbone):
                module.recompute = recompute
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            total = made.loss(random_batch(), rng()).total
        found.append(torch.cat([each.flatten() for each in torch.autograd.grad(total, list(made.parameters()))]))
    torch.testing.assert_close(found[1], found[0])
    assert torch.nn.functional.cosine_similarity(found[2], found[0], 0) > 0.95


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
            same = (made.forced(change(batch, 6 + column)) == before).all(-1).all(0).tolist()
            later = range(column + 1, 4) if made.order == "forward" else range(column)
            assert same == [t not in later for t in range(4)]
        for column in range(6) if backbone == LEARNED and "plan" not in objective else ():
            assert (made.forced(change(batch, column)) != before).any(-1).all(), f"prompt column {column} is not read"
    with pytest.raises(ValueError, match="split the batch by length"):
        made.forced(ragged_batch())


@per_pair
@torch.no_grad()
def test_decoding_takes_the_likeliest_token_each_time(objective: str, backbone: str) -> None:
    """An answer is the largest of what forcing gives for it, place by place, and its length does not matter."""
    made, prompts = scrambled(objective, backbone), random_batch().prompts
    answers = made.generate(prompts, 4)
    assert answers.dtype == torch.int64
    assert made.generate(prompts, 0).shape == (16, 0)
    forced = made.forced(Batch.of(torch.cat((prompts, answers), 1), 6, 4))
    assert forced is None or torch.equal(forced.argmax(-1), answers)
    for n in (1, 2, 3, 5) if not made.needs_length else ():
        other, shared = made.generate(prompts, n), min(n, 4)
        backward = made.order == "backward"
        assert torch.equal(*((each[:, -shared:] if backward else each[:, :shared]) for each in (other, answers)))
        if made.order == "forward" and n < 4:
            assert torch.equal(made.continue_answer(prompts, answers[:, :n], 4 - n), answers[:, n:])
    assert len(distinct_rows(answers)) > 1


@pytest.mark.parametrize("autocast", [False, True])
@per_steady_pair
@torch.no_grad()
def test_losses_are_those_of_forcing(objective: str, backbone: str, autocast: bool) -> None:
    made, batch = scrambled(objective, backbone), random_batch()
    forced = made.forced(batch)
    if forced is None or "ranking" in objective:
        pytest.skip("cannot be forced, or loses no nats")
    close = 0.05 if autocast else 1e-4
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses, forced = made.loss(batch, rng()).per_token[:, 6:], made.forced(batch)
    torch.testing.assert_close(-forced.gather(2, batch.answers[..., None])[..., 0], losses, rtol=close, atol=close)


@per_objective
@torch.no_grad()
def test_what_is_dropped_leaves_next_tokens_decoding(objective: str) -> None:
    made, batch = scrambled(objective), random_batch()
    if not isinstance(made, NextToken) or made.order != "forward" or "plan" in objective:
        pytest.skip("decodes in a way of its own")
    plain: Any = NextToken(made.backbone, made.vocab)
    for name, parameter in made.named_parameters():
        if not name.startswith("backbone."):
            parameter.fill_(math.nan)
    assert torch.equal(made.generate(batch.prompts, 4), plain.generate(batch.prompts, 4))
    assert torch.equal(made.forced(batch), plain.forced(batch))
    tokens: list[Any] = [each.sample(batch.prompts, 4, 0.7, rng()) for each in (made, plain)]
    assert torch.equal(*tokens)


@pytest.mark.parametrize(
    ("objective", "backbone"),
    [pair if pair[1] == LEARNED else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS],
    ids=identify,
)
def test_one_ragged_batch_is_memorised(objective: str, backbone: str) -> None:
    batch, made, draws = ragged_batch(12), build(objective, backbone), rng()
    optimiser = torch.optim.AdamW(made.parameters(), lr=5e-3, fused=True)
    steps = 1200 if objective == "insertion" else 600  # one draw a row and step, of 2 ** 4 sets of dropped tokens
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        torch.autograd.backward(made.loss(batch, draws).total)
        optimiser.step()
        if step % 20 == 0 and torch.equal(predict_answers(made, batch, 16), batch.padded_answers()):
            return
    pytest.fail("not memorised")


# What is refused of an objective: options, vocabularies and backbones


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ("joint-multi-token:heads=3", "must divide the backbone's width, 32"),
        ("joint-multi-token:heads=0", "must divide the backbone's width, 32"),
        ("masked-diffusion:weighting=linear", "must be one of elbo, mean, mgdm"),
        ("token-masking:choose=words", "must be one of tokens, span"),
        ("token-masking:replace=noise", "must be one of mask, random"),
        ("next-latent:latents=prompt", "must be one of sequence, answer"),
        ("future-insertion:place=end", "must be one of start, random"),
        ("belief-state:gap=2", "has no option 'gap'"),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(objective: str, reason: str) -> None:
    name, _, option = objective.partition(":")
    with refused(name, option.partition("=")[0], reason):
        build(objective, LEARNED)


@pytest.mark.parametrize("name", [name for name in objectives.names() if objectives.get(name).symbols])
def test_symbols_of_its_own_must_be_in_the_vocabulary(name: str) -> None:
    symbols, made = objectives.get(name).symbols, build(name, LEARNED)
    assert made.vocab.symbols == (*VOCAB.symbols, *symbols)
    with refused(f"symbol {symbols[0]!r} is not in the vocabulary"):
        spec.resolve(objectives, name).build(made.backbone, VOCAB, rng())
