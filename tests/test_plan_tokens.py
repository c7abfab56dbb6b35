"""Planning tokens: the loss and the codes by plain loops, and where nothing is planned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from objective_support import assert_loss, rng, scrambled
from support import Stub, random_batch, right_padded, scramble
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.plan_tokens import Autoencoder, PlanTokens

Vector = list[float]


def linear(weight: Tensor, x: Vector, bias: Tensor | None = None) -> Vector:
    added = [0.0] * len(weight) if bias is None else bias.tolist()
    return [
        sum(w * value for w, value in zip(row, x, strict=True)) + b
        for row, b in zip(weight.tolist(), added, strict=True)
    ]


def normed(x: Vector, weight: Tensor, bias: Tensor) -> Vector:
    mean = sum(x) / len(x)
    spread = math.sqrt(sum((value - mean) ** 2 for value in x) / len(x) + 1e-5)
    return [(value - mean) / spread * w + b for value, w, b in zip(x, weight.tolist(), bias.tolist(), strict=True)]


def nats(logits: Vector, target: int) -> float:
    return math.log(sum(math.exp(value) for value in logits)) - logits[target]


def codes_by_loops(autoencoder: Autoencoder, read: Sequence[Vector]) -> list[Vector]:
    """z_k of an answer's states, with one head."""
    width = len(read[0])
    found: list[Vector] = []
    into, into_bias = autoencoder.keys_values_in, autoencoder.keys_values_in_bias
    both = [linear(into, state, into_bias) for state in read]
    for start in autoencoder.query_table.tolist():
        norm = autoencoder.query_norm
        query = linear(autoencoder.queries_in, normed(start, norm.weight, norm.bias), autoencoder.queries_in_bias)
        scores = [sum(q * k for q, k in zip(query, pair[:width], strict=True)) / math.sqrt(width) for pair in both]
        largest = max(scores)
        shares = [math.exp(score - largest) for score in scores]
        mixed = [
            sum(share / sum(shares) * pair[width + axis] for share, pair in zip(shares, both, strict=True))
            for axis in range(width)
        ]
        out = linear(autoencoder.attention_out, mixed, autoencoder.attention_out_bias)
        residual = [a + b for a, b in zip(start, out, strict=True)]
        found.append(
            linear(autoencoder.to_code, normed(residual, autoencoder.code_norm.weight, autoencoder.code_norm.bias))
        )
    return found


def test_loss_by_hand() -> None:
    """Prompt a, answer b b a. The stub's states are its inputs: one-hot for symbols, learned for planning tokens."""
    after = torch.tensor([[0.2, 1.3], [0.9, -0.4]])
    made = PlanTokens(Stub(after, "token"), Vocabulary(("a", "b")), rng(), tokens=2, dimensions=3, alpha=0.5, beta=2.0)
    autoencoder, to_plan = made.autoencoder, made.to_plan
    assert autoencoder is not None
    assert to_plan is not None
    autoencoder.decoder = Stub(after, "token")
    scramble(made, 0.7)
    with torch.no_grad():
        to_plan.mul_(3)  # so that some gaps are on the straight part of the smooth L1
    table: Tensor = made.backbone.table  # type: ignore[assignment]  # the stub's

    def logits(state: Vector) -> Vector:
        return linear(table.T, state)

    states = {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    plan = made.plan_table.tolist()
    terms = [nats(logits(plan[1]), 1), nats(logits(states["b"]), 1), nats(logits(states["b"]), 0)]
    codes = codes_by_loops(autoencoder, [states["b"], states["b"], states["a"]])
    apart = [
        guess - code
        for state, target in zip(plan, codes, strict=True)
        for guess, code in zip(linear(to_plan, state), target, strict=True)
    ]
    missed = sum(0.5 * gap**2 if abs(gap) < 1 else abs(gap) - 0.5 for gap in apart) / 6
    prefix = linear(autoencoder.from_code, codes[1], autoencoder.from_code_bias)
    rebuilt = [nats(logits(prefix), 1), nats(logits(states["b"]), 1), nats(logits(states["b"]), 0)]

    out = made.loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    parts = {"next-token": sum(terms) / 3, "plan": 0.5 * missed, "reconstruction": 2.0 * sum(rebuilt) / 3}
    assert_loss(out, parts, terms, 1e-4)
    assert any(abs(gap) > 1 for gap in apart)
    assert any(abs(gap) < 1 for gap in apart)


def test_a_row_without_an_answer_teaches_nothing() -> None:
    made, rows = scrambled("plan-tokens"), [random_batch(1, 5, 3), random_batch(1, 3, 0, seed=1)]
    with_empty, without = made.loss(right_padded(rows, 0), rng()), made.loss(rows[0], rng())
    for name, part in with_empty.parts.items():
        torch.testing.assert_close(part, without.parts[name])
    gradients = torch.autograd.grad(with_empty.total, list(made.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(("width", "heads"), [(32, 1), (64, 1), (128, 2), (384, 6), (100, 1)])
def test_heads_have_64_dimensions_where_they_fit(width: int, heads: int) -> None:
    stub = Stub(torch.zeros(width, 3), "token")
    assert Autoencoder(stub, rng(), 2, 4).heads == heads


def test_alpha_zero_leaves_the_planning_tokens_alone() -> None:
    made, batch = scrambled("plan-tokens:alpha=0"), random_batch()
    out = made.loss(batch, rng())
    assert list(out.parts) == ["next-token"]
    assert all(gradient.any() for gradient in torch.autograd.grad(out.total, list(made.parameters())))


def test_a_sequence_that_no_longer_fits_is_refused_by_its_true_length() -> None:
    """28 tokens of 32 are shown, and 8 planning tokens."""
    made, batch = scrambled("plan-tokens:tokens=8"), random_batch(4, 25, 4)
    with pytest.raises(RequestError, match="a sequence of 36 tokens does not fit context=32"):
        made.loss(batch, rng())
