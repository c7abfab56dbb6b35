"""Joint multi-token prediction: one state, several tokens, the earlier ones given."""

from __future__ import annotations

from math import log

import pytest
import torch
from objective_support import assert_loss, rng
from support import Stub, numbered, transformer

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.joint_multi_token import JointMultiToken


@pytest.mark.parametrize(
    ("bias", "slot_1"),
    [
        # Even attention. With tokens that differ, slots 0 and 1 cancel and the residual, the state after x_t, decides;
        # with equal ones all agree. So x_{t+2} is predicted from x_t: b from a, then a from b.
        (0.0, [1 / 4, 1 / 4]),
        # Slot 1 reads itself at weight 7/8, where 7/8 - 1/8 outweighs half of what the residual brings: so x_{t+2} is
        # predicted from x_{t+1}, the token revealed: b from b, then a from b.
        (log(7), [3 / 4, 1 / 4]),
    ],
)
def test_loss_by_hand(bias: float, slot_1: list[float]) -> None:
    """The prompt "a", the answer "b b a"; a sign for a gives a the probability 3/4, and likewise b."""
    stub = Stub(torch.tensor([[log(3) / 4, -log(3) / 4], [-log(3) / 4, log(3) / 4]]), "token")
    made = JointMultiToken(stub, Vocabulary(("a", "b")), rng(), horizon=1, heads=1, weight=0.5)
    with torch.no_grad():
        made.fetch.queries_keys.zero_()
        made.fetch.values.copy_(torch.eye(2))
        made.fetch.out.copy_(torch.eye(2))
        made.fetch.bias_table[0, 1, 1] = bias
    out = made.loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    slot_0 = [1 / 4, 3 / 4, 1 / 4]  # b after a, b after b, a after b
    parts = {"next-token": -sum(map(log, slot_0)) / 3, "slot-1": -0.5 * sum(map(log, slot_1)) / 3}
    assert_loss(out, parts, [-log(p) for p in slot_0], 1e-3)


def test_weights_start_as_stated() -> None:
    backbone = transformer()
    fetch = JointMultiToken(backbone, numbered(13), rng()).fetch
    assert fetch.state_weight.item() == pytest.approx(0.1)
    assert not fetch.bias_table.any()
    for weight in (fetch.queries_keys, fetch.values, fetch.out):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
