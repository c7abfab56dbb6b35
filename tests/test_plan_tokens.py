"""Planning tokens: the loss and the codes by plain loops, and where nothing is planned."""

from __future__ import annotations

import math

import pytest
import torch
from objective_support import assert_loss, rng, scrambled
from support import Stub, random_batch, right_padded, scramble
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.plan_tokens import Autoencoder, PlanTokens


def codes_of(autoencoder: Autoencoder, read: Tensor) -> Tensor:
    """[K, Z] of an answer's states [A, D], with one head."""
    queries = autoencoder.query_norm(autoencoder.query_table) @ autoencoder.queries_in.T + autoencoder.queries_in_bias
    keys, values = (read @ autoencoder.keys_values_in.T + autoencoder.keys_values_in_bias).chunk(2, 1)
    mixed = (queries @ keys.T / math.sqrt(keys.shape[1])).softmax(1) @ values
    out = mixed @ autoencoder.attention_out.T + autoencoder.attention_out_bias
    return autoencoder.code_norm(autoencoder.query_table + out) @ autoencoder.to_code.T  # type: ignore[no-any-return]


@torch.no_grad()
def test_loss_by_hand() -> None:
    """Prompt a, answer b b a. The stub's states are its inputs: one-hot for symbols, learned for planning tokens."""
    after = torch.tensor([[0.2, 1.3], [0.9, -0.4]])
    made = PlanTokens(Stub(after, "token"), Vocabulary(("a", "b")), rng(), tokens=2, dimensions=3, alpha=0.5, beta=2.0)
    autoencoder, to_plan, table = made.autoencoder, made.to_plan, made.backbone.get_parameter("table")
    assert autoencoder is not None
    assert to_plan is not None
    autoencoder.decoder = Stub(after, "token")
    scramble(made, 0.7)
    to_plan.mul_(3)  # so that some gaps are on the straight part of the smooth L1
    a, b = torch.eye(2)

    def nats(*states: Tensor) -> list[float]:
        """Of b, b, a after these states."""
        return (-(torch.stack(states) @ table).log_softmax(1)[range(3), [1, 1, 0]]).tolist()

    codes = codes_of(autoencoder, torch.stack((b, b, a)))
    gaps = (made.plan_table @ to_plan.T - codes).abs()
    missed = torch.where(gaps < 1, 0.5 * gaps**2, gaps - 0.5).mean().item()
    prefix = autoencoder.from_code @ codes[1] + autoencoder.from_code_bias
    terms, rebuilt = nats(made.plan_table[1], b, b), nats(prefix, b, b)

    out = made.loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    parts = {"next-token": sum(terms) / 3, "plan": 0.5 * missed, "reconstruction": 2.0 * sum(rebuilt) / 3}
    assert_loss(out, parts, terms, 1e-4)
    assert (gaps > 1).any()
    assert (gaps < 1).any()


def test_a_row_without_an_answer_teaches_nothing() -> None:
    made, rows = scrambled("plan-tokens"), [random_batch(1, 5, 3), random_batch(1, 3, 0, seed=1)]
    with_empty, without = made.loss(right_padded(rows, 0), rng()), made.loss(rows[0], rng())
    for name, part in with_empty.parts.items():
        torch.testing.assert_close(part, without.parts[name])
    gradients = torch.autograd.grad(with_empty.total, list(made.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_heads_have_64_dimensions_where_they_fit_and_alpha_zero_leaves_the_planning_tokens_alone() -> None:
    for width, heads in ((32, 1), (64, 1), (128, 2), (384, 6), (100, 1)):
        assert Autoencoder(Stub(torch.zeros(width, 3), "token"), rng(), 2, 4).heads == heads
    made, batch = scrambled("plan-tokens:alpha=0"), random_batch()
    out = made.loss(batch, rng())
    assert list(out.parts) == ["next-token"]
    assert all(gradient.any() for gradient in torch.autograd.grad(out.total, list(made.parameters())))


def test_a_sequence_that_no_longer_fits_is_refused_by_its_true_length() -> None:
    """28 tokens of 32 are shown, and 8 planning tokens."""
    made, batch = scrambled("plan-tokens:tokens=8"), random_batch(4, 25, 4)
    with pytest.raises(RequestError, match="a sequence of 36 tokens does not fit context=32"):
        made.loss(batch, rng())
