"""Next-latent: the loss by hand, where gradients stop, and the network that is dropped."""

from __future__ import annotations

from math import log

import pytest
import torch
from objective_support import assert_loss, rng, scrambled
from support import VOCAB, Stub, random_batch, scramble, transformer
from torch import Tensor
from torch.nn import functional

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.next_latent import Dynamics, NextLatent, frozen

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4], [2 / 3, 1 / 3]])
"""Row t: probabilities of a and b in state t, which is what reading a (0) or b (1) leaves."""

REGIONS = ("sequence", "answer")


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


def test_a_sequence_shorter_than_the_horizon_is_rolled_as_far_as_it_goes() -> None:
    made, read = scrambled("next-latent:horizon=8"), list[int]()
    made.dynamics.register_forward_hook(lambda _module, _inputs, output: read.append(output.shape[1]))
    assert made.loss(random_batch(4, 3, 2), rng()).total.isfinite()
    assert read == [3, 2, 1]


@pytest.mark.parametrize(("width", "hidden", "published"), [(32, 128, 28_736), (384, 384, 590_592)])
def test_parameters_of_the_network(width: int, hidden: int, published: int) -> None:
    dynamics = Dynamics(width, rng())
    assert len(dynamics.first) == hidden
    assert sum(parameter.numel() for parameter in dynamics.parameters()) == published
