"""Next-latent: the loss by hand, where gradients stop, and the network that is dropped."""

from __future__ import annotations

from math import erf, exp, log, sqrt
from typing import Any

import pytest
import torch
from objective_support import rng, scrambled
from support import SMALL, VOCAB, Stub, random_batch, right_padded, scramble, transformer
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.next_latent import Dynamics, NextLatent, frozen

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4], [2 / 3, 1 / 3]])
"""Row t: probabilities of a and b in state t, which is what reading a (0) or b (1) leaves."""

REGIONS = ("sequence", "answer")

Vector = list[float]


def product(weight: list[Vector], vector: Vector) -> Vector:
    return [sum(each * value for each, value in zip(row, vector, strict=True)) for row in weight]


def gelu(vector: Vector) -> Vector:
    return [value * (1 + erf(value / sqrt(2))) / 2 for value in vector]


def next_state(dynamics: Dynamics, state: Vector, embedded: Vector) -> Vector:
    both = embedded + state
    mean = sum(both) / len(both)
    deviation = sqrt(sum((value - mean) ** 2 for value in both) / len(both) + 1e-5)
    scale = dynamics.norm.weight.tolist()
    normed = [(value - mean) / deviation * each for value, each in zip(both, scale, strict=True)]
    first, second, third = (weight.tolist() for weight in (dynamics.first, dynamics.second, dynamics.third))
    change = product(third, gelu(product(second, gelu(product(first, normed)))))
    return [old + new for old, new in zip(state, change, strict=True)]


def smooth_l1(left: Vector, right: Vector) -> float:
    apart = [abs(one - other) for one, other in zip(left, right, strict=True)]
    return sum(each**2 / 2 if each < 1 else each - 0.5 for each in apart) / len(apart)


def distribution(state: Vector) -> Vector:
    powers = [exp(score) for score in product(AFTER_TOKEN.log().T.tolist(), state)]
    return [power / sum(powers) for power in powers]


def divergence(true: Vector, guessed: Vector) -> float:
    return sum(one * log(one / other) for one, other in zip(true, guessed, strict=True))


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("prompt", [1, 2])
@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_loss_by_hand(horizon: int, prompt: int, region: str) -> None:
    """Answer "b b a" after prompt "a" or "b a"; the network has large weights, so that distances exceed 1 too."""
    inputs = [1, 0, 1, 1][2 - prompt :]
    made = NextLatent(
        Stub(AFTER_TOKEN.log(), "token"), Vocabulary(("a", "b")), rng(), horizon=horizon,
        latent_weight=0.7, kl_weight=0.3, latents=region,  # type: ignore[arg-type]  # parametrised
    )  # fmt: skip
    scramble(made.dynamics)
    states = [[float(token == symbol) for symbol in (0, 1)] for token in inputs]
    began = 0 if region == "sequence" else prompt - 1

    latent = kl = 0.0
    for step in range(1, horizon + 1):
        distances, divergences = [], []
        for start in range(began, len(inputs) - step):
            state = states[start]
            for place in range(start + 1, start + step + 1):
                state = next_state(made.dynamics, state, states[place])  # a token's embedding is its one-hot state
            place = start + step
            distances.append(smooth_l1(state, states[place]))
            if place >= prompt - 1:  # predicts an answer token
                divergences.append(divergence(distribution(states[place]), distribution(state)))
        latent += sum(distances) / max(1, len(distances)) / horizon
        kl += sum(divergences) / max(1, len(divergences)) / horizon

    out = made.loss(Batch.of(torch.tensor([[*inputs, 0]]), prompt, 3), rng())
    plain = [log(3 / 4), log(1 / 3), log(2 / 3)]
    assert list(out.parts) == ["next-token", "latent", "kl"]
    assert out.parts["next-token"].item() == pytest.approx(-sum(plain) / 3, rel=1e-5)
    assert out.parts["latent"].item() == pytest.approx(0.7 * latent, rel=1e-4)
    assert out.parts["kl"].item() == pytest.approx(0.3 * kl, rel=1e-4)
    assert out.total.item() == pytest.approx(-sum(plain) / 3 + 0.7 * latent + 0.3 * kl, rel=1e-4)
    assert out.per_token[0, prompt:].tolist() == pytest.approx([-term for term in plain], rel=1e-5)
    assert latent > 0.1
    assert kl > 0.01


@pytest.mark.parametrize(("region", "pairs"), [("sequence", (5, 6, 6, 2)), ("answer", (3, 1, 3, 0))])
@pytest.mark.parametrize("backbone", SMALL)
def test_ragged_rows_lose_what_they_lose_alone(backbone: str, region: str, pairs: tuple[int, ...]) -> None:
    """With a horizon of one: the latent loss is a mean over ``pairs`` of neighbours that next-token reads."""
    made = scrambled(f"next-latent:horizon=1,latents={region}", backbone)
    shapes = [(3, 4), (6, 2), (4, 4), (3, 1)]
    if region == "sequence":
        assert pairs == tuple(prompt + answer - 2 for prompt, answer in shapes)
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate(shapes)]
    together = made.loss(right_padded(rows, 12), rng()).parts
    alone = [made.loss(row, rng()).parts for row in rows]
    predicting = pairs if region == "answer" else tuple(answer for _, answer in shapes)
    for part, counts in (("latent", pairs), ("kl", predicting)):
        expected = sum(parts[part] * count for parts, count in zip(alone, counts, strict=True)) / sum(counts)
        torch.testing.assert_close(together[part], expected)


class Constant(Dynamics):
    """A network whose answer depends on nothing."""

    def forward(self, state: Tensor, embedded: Tensor) -> Tensor:
        return torch.ones_like(state, requires_grad=False)


def untied() -> Any:
    """On a backbone whose head is no embedding table, with weights at which every gradient shows."""
    made = NextLatent(transformer(tied=False), VOCAB, rng())
    scramble(made)
    return made


@pytest.mark.parametrize("part", ["latent", "kl"])
def test_targets_and_head_get_no_gradient(part: str) -> None:
    """If what is compared with the targets is constant, nothing is left that could learn."""
    made = untied()
    assert made.loss(random_batch(), rng()).parts[part].requires_grad
    made.dynamics = Constant(32, rng())
    assert not made.loss(random_batch(), rng()).parts[part].requires_grad


@pytest.mark.parametrize("autocast", [False, True])
def test_the_divergence_teaches_all_but_the_head(autocast: bool) -> None:
    made = untied()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = made.loss(random_batch(), rng())
    head = made.backbone.get_parameter("head")
    learning = dict(made.named_parameters())
    gradients = torch.autograd.grad(out.parts["kl"], list(learning.values()), materialize_grads=True, retain_graph=True)
    still = [name for name, gradient in zip(learning, gradients, strict=True) if not gradient.any()]
    assert still == ["backbone.head"]
    (from_next_token,) = torch.autograd.grad(out.parts["next-token"], head)
    assert from_next_token.any()


def test_latents_teach_states_network_and_tokens() -> None:
    made = untied()
    learning = {name: each for name, each in made.named_parameters() if name != "backbone.head"}
    gradients = torch.autograd.grad(made.loss(random_batch(), rng()).parts["latent"], list(learning.values()))
    assert all(gradient.any() for gradient in gradients)


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


def rolled(made: Any, batch: Batch) -> list[Tensor]:
    """The predicted states [B, T', D] of each step; the last one of each is of the last position."""
    seen: list[Tensor] = []
    hook = made.dynamics.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    try:
        made.loss(batch, rng())
    finally:
        hook.remove()
    return seen


def test_a_sequence_shorter_than_the_horizon_is_rolled_as_far_as_it_goes() -> None:
    made = scrambled("next-latent:horizon=8")
    batch = random_batch(4, 3, 2)
    assert [each.shape[1] for each in rolled(made, batch)] == [3, 2, 1]
    assert made.loss(batch, rng()).total.isfinite()


@pytest.mark.parametrize(("width", "hidden"), [(32, 128), (128, 128), (384, 384), (400, 384), (768, 768)])
def test_parameters_of_the_network(width: int, hidden: int) -> None:
    count = sum(parameter.numel() for parameter in Dynamics(width, rng()).parameters())
    assert count == 2 * width + 2 * width * hidden + hidden * hidden + hidden * width
    assert (count == 590_592) == (width == 384)  # the published number
