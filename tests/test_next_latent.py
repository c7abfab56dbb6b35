"""Next-latent: the loss by hand, where gradients stop, and the network that is dropped."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from objective_support import assert_loss, ragged_batch, ragged_rows, rng, scrambled
from support import VOCAB, Stub, random_batch, scramble, transformer
from torch import Tensor
from torch.nn import functional

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import objectives
from foresee.objectives.next_latent import Dynamics, NextLatent, frozen

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4], [2 / 3, 1 / 3]])
"""Row t: probabilities of a and b in state t, which is what reading a (0) or b (1) leaves."""

REGIONS = ("sequence", "answer")
TEACHERS = ("reversed", "teacherless")


def next_state(dynamics: Dynamics, state: Tensor, embedded: Tensor) -> Tensor:
    both = torch.cat((embedded, state))
    normed = (both - both.mean()) / (both.var(correction=0) + 1e-5).sqrt() * dynamics.norm.weight
    inner = functional.gelu(dynamics.second @ functional.gelu(dynamics.first @ normed))
    return state + dynamics.third @ inner


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("prompt", [1, 2])
@pytest.mark.parametrize("horizon", [1, 2, 3])
@torch.no_grad()
def test_loss_by_hand(horizon: int, prompt: int, region: str) -> None:
    """Answer "b b a" after prompt "a" or "b a"; the network has large weights, so that distances exceed 1 too."""
    inputs = [1, 0, 1, 1][2 - prompt :]
    made = NextLatent(
        Stub(AFTER_TOKEN.log(), "token"), Vocabulary(("a", "b")), rng(), horizon=horizon,
        latent_weight=0.7, kl_weight=0.3, latents=region,  # type: ignore[arg-type]  # parametrised
    )  # fmt: skip
    scramble(made.dynamics)
    states = torch.eye(2)[inputs]
    says = (states @ AFTER_TOKEN.log()).softmax(1)
    began = 0 if region == "sequence" else prompt - 1

    latent = kl = 0.0
    for step in range(1, horizon + 1):
        distances, divergences = [], []
        for start in range(began, len(inputs) - step):
            state = states[start]
            for place in range(start + 1, start + step + 1):
                state = next_state(made.dynamics, state, states[place])  # a token's embedding is its one-hot state
            place = start + step
            gaps = (state - states[place]).abs()
            distances.append(torch.where(gaps < 1, gaps**2 / 2, gaps - 0.5).mean().item())
            if place >= prompt - 1:  # predicts an answer token
                guessed = (state @ AFTER_TOKEN.log()).softmax(0)
                divergences.append((says[place] * (says[place] / guessed).log()).sum().item())
        latent += sum(distances) / max(1, len(distances)) / horizon
        kl += sum(divergences) / max(1, len(divergences)) / horizon

    out = made.loss(Batch.of(torch.tensor([[*inputs, 0]]), prompt, 3), rng())
    plain = [log(3 / 4), log(1 / 3), log(2 / 3)]
    parts = {"next-token": -sum(plain) / 3, "latent": 0.7 * latent, "kl": 0.3 * kl}
    assert_loss(out, parts, [-term for term in plain], 1e-4)
    assert latent > 0.1
    assert kl > 0.01


@pytest.mark.parametrize("autocast", [False, True])
def test_the_divergence_teaches_all_but_the_head(autocast: bool) -> None:
    made = NextLatent(transformer(tied=False), VOCAB, rng())
    scramble(made)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = made.loss(random_batch(), rng())
    head = made.backbone.get_parameter("head")
    learning = dict(made.named_parameters())
    gradients = torch.autograd.grad(out.parts["kl"], list(learning.values()), materialize_grads=True, retain_graph=True)
    still = [name for name, gradient in zip(learning, gradients, strict=True) if not gradient.any()]
    assert still == ["backbone.head"]
    (from_next_token,) = torch.autograd.grad(out.parts["next-token"], head)
    assert from_next_token.any()


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("teacher", TEACHERS)
@torch.no_grad()
def test_a_teacher_says_what_states_are_guessed(teacher: str, region: str) -> None:
    """Each row by itself: the rolled states, carried over, beside the teacher's state of the same token."""
    made, batch = scrambled(f"next-latent:teacher={teacher},latents={region},horizon=2"), random_batch(2, 3, 4)
    out = made.loss(batch, rng())
    _, known, says = made.teacher(batch)
    latents, divergences = dict[int, list[float]](), dict[int, list[float]]()
    for row in range(2):
        embedded = made.backbone.embed(batch.tokens[row : row + 1])[0]
        states = made.backbone(embedded[None])[0]
        for start in range(0 if region == "sequence" else 2, 6):
            state = states[start]
            for step, place in enumerate(range(start + 1, min(start + 3, 6)), start=1):
                state = next_state(made.dynamics, state, embedded[place])
                if place >= 2:  # predicts answer token number place - 2
                    gaps = (made.teacher.translation @ state - known[row, place - 2]).abs()
                    latents.setdefault(step, []).append(torch.where(gaps < 1, gaps**2 / 2, gaps - 0.5).mean().item())
                    guess, truth = made.backbone.logits(state).log_softmax(0), says[row, place - 2].log_softmax(0)
                    divergences.setdefault(step, []).append((truth.exp() * (truth - guess)).sum().item())
    assert list(out.parts) == ["next-token", "teacher", "latent", "kl"]
    for part, found in (("latent", latents), ("kl", divergences)):
        expected = sum(sum(each) / len(each) for each in found.values()) / 2
        assert out.parts[part].item() == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_teachers_states_are_those_of_the_objectives_that_they_are_trained_by() -> None:
    """Rows of unlike lengths, each beside itself alone."""
    rows, batch = ragged_rows(), ragged_batch()
    for teacher in TEACHERS:
        made = scrambled(f"next-latent:teacher={teacher}").teacher
        alike: Any = objectives.get(teacher)(made.backbone, VOCAB.extended(("$",)), rng())
        loss, states, logits = made(batch)
        assert loss.item() == pytest.approx(alike.loss(batch, rng()).total.item(), rel=1e-5)
        for row, alone in enumerate(rows):
            prompt, length = int(alone.prompt_len), int(alone.answer_len)
            own = slice(prompt - batch.layout.first, prompt - batch.layout.first + length)
            found = logits[row, own].log_softmax(-1)
            if teacher == "reversed":
                forced = alike.forced(alone)
            else:
                forced = alike._logits(alone.prompts, length).log_softmax(-1)
            expected = forced[0, :, : len(VOCAB)].log_softmax(-1)
            assert torch.allclose(found, expected, atol=1e-4)
            assert torch.allclose(made.backbone.logits(states[row, own])[:, : len(VOCAB)], logits[row, own], atol=1e-4)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_no_gradient_passes_between_teacher_and_taught(teacher: str) -> None:
    made = scrambled(f"next-latent:teacher={teacher}")
    out, learning = made.loss(random_batch(), rng()), dict(made.named_parameters())
    of_teacher = {name for name in learning if name.startswith("teacher.backbone")}
    for part, loss in out.parts.items():
        gradients = torch.autograd.grad(loss, list(learning.values()), materialize_grads=True, retain_graph=True)
        moved = {name for name, gradient in zip(learning, gradients, strict=True) if gradient.any()}
        assert moved
        assert moved <= of_teacher if part == "teacher" else not moved & of_teacher


def test_freezing_ends_as_it_began() -> None:
    module = transformer()
    module.final_norm.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in module.named_parameters()}

    def fail() -> None:
        with frozen(module):
            assert not any(parameter.requires_grad for parameter in module.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert before == {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    assert len(set(before.values())) == 2


def test_a_sequence_shorter_than_the_horizon_is_rolled_as_far_as_it_goes_by_a_network_of_the_published_size() -> None:
    made, read = scrambled("next-latent:horizon=8"), list[int]()
    made.dynamics.register_forward_hook(lambda _module, _inputs, output: read.append(output.shape[1]))
    assert made.loss(random_batch(4, 3, 2), rng()).total.isfinite()
    assert read == [3, 2, 1]
    for width, hidden, published in ((32, 128, 28_736), (384, 384, 590_592)):
        dynamics = Dynamics(width, rng())
        assert len(dynamics.first) == hidden
        assert sum(parameter.numel() for parameter in dynamics.parameters()) == published
