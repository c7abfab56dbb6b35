"""Joint multi-token prediction: one state, several tokens, the earlier ones given."""

from __future__ import annotations

import math
from math import log
from typing import Any

import pytest
import torch
from objective_support import ragged_rows, rng, scrambled
from support import Stub, numbered, random_batch, right_padded, transformer
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.joint_multi_token import Fetch, JointMultiToken, reveal


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
    expected = [-sum(map(log, slot_0)) / 3, -0.5 * sum(map(log, slot_1)) / 3]
    assert list(out.parts) == ["next-token", "slot-1"]
    assert [part.item() for part in out.parts.values()] == pytest.approx(expected, rel=1e-3)
    assert out.total.item() == pytest.approx(sum(expected), rel=1e-3)
    assert out.per_token[0].tolist() == pytest.approx([0.0, *(-log(p) for p in slot_0)], rel=1e-3)


def slots_at(fetch: Fetch, state: Tensor, tokens: list[Tensor]) -> list[Tensor]:
    """What the output head reads in each slot, from a state [D] and the embeddings [D] of the tokens revealed."""
    width, heads = len(state), fetch.heads
    size = width // heads

    def normed(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
        centred = x - x.mean()
        return centred / math.sqrt((centred * centred).mean().item() + 1e-5) * norm.weight + norm.bias

    combined = [normed(token + fetch.state_weight * state, fetch.combine_norm) for token in tokens]
    query, key = fetch.queries_keys[:width], fetch.queries_keys[width:]
    read = []
    for k, slot in enumerate(combined):
        found = []
        for head in range(heads):
            rows = slice(head * size, (head + 1) * size)
            scores = [
                (query[rows] @ slot) @ (key[rows] @ other) / math.sqrt(size) + fetch.bias_table[head, k, j]
                for j, other in enumerate(combined[: k + 1])
            ]
            weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            values = [weight * (fetch.values[rows] @ other) for weight, other in zip(weights, combined, strict=False)]
            found.append(torch.stack(values).sum(0))
        fetched = fetch.out @ torch.cat(found)
        read.append(normed(fetched + state if k else fetched, fetch.final_norm))
    return read


def pairs_loss(made: Any, rows: list[Batch]) -> dict[str, float]:
    sums = [0.0 for _ in range(made.horizon + 1)]
    answers = 0
    for row in rows:
        tokens, prompt, end = row.tokens[0], int(row.prompt_len), int(row.prompt_len + row.answer_len)
        answers += end - prompt
        embedded = made.backbone.embed(row.tokens)[0]
        states = made.backbone(embedded[None])[0]
        for t in range(end - 1):
            read = slots_at(made.fetch, states[t], list(embedded[t : min(end, t + made.horizon + 1)]))
            for k, slot in enumerate(read):
                target = t + 1 + k
                if prompt <= target < end:
                    sums[k] -= made.backbone.logits(slot).log_softmax(-1)[tokens[target]].item()
    parts = {"next-token": sums[0] / answers}
    for k in range(1, len(sums)):
        parts[f"slot-{k}"] = made.weight / made.horizon * sums[k] / answers
    return parts


@torch.no_grad()
@pytest.mark.parametrize("options", ["horizon=3,weight=0.7", "horizon=2,heads=1"])
def test_every_pair_counts_once_by_its_target(options: str) -> None:
    made, rows = scrambled(f"joint-multi-token:{options}"), ragged_rows([(3, 4), (6, 2), (4, 4), (3, 1), (1, 3)])
    for batch, of in ((right_padded(rows, 12), rows), (rows[1], rows[1:2])):
        parts = {name: part.item() for name, part in made.loss(batch, rng()).parts.items()}
        assert parts == pytest.approx(pairs_loss(made, of), rel=1e-4)


def test_a_slot_reads_its_own_position_and_no_later_slot() -> None:
    made, draws = scrambled("joint-multi-token"), rng()
    states = torch.randn(2, 5, 32, generator=draws)
    tokens = torch.randn(2, 5, 4, 32, generator=draws)
    before = made.fetch(states, tokens)
    for slot in range(4):
        changed = tokens.clone()
        changed[:, 2, slot] += torch.randn(32, generator=draws)
        moved = (made.fetch(states, changed) != before).any(-1)
        assert moved[:, 2].tolist() == [[k >= slot for k in range(4)]] * 2
        assert not moved[:, [0, 1, 3, 4]].any()
    changed = states.clone()
    changed[:, 2] += torch.randn(32, generator=draws)
    moved = (made.fetch(changed, tokens) != before).any(-1)
    assert moved[:, 2].all()
    assert not moved[:, [0, 1, 3, 4]].any()


def test_the_window_of_a_position_begins_with_its_own_token() -> None:
    embedded = torch.arange(1.0, 5.0).view(1, 4, 1)
    assert reveal(embedded, 2)[0, :, :, 0].tolist() == [[1, 2, 3], [2, 3, 4], [3, 4, 0], [4, 0, 0]]


@pytest.mark.parametrize("autocast", [False, True])
@torch.no_grad()
def test_the_next_token_path_is_the_same_in_training_and_forcing(autocast: bool) -> None:
    made, batch, close = scrambled("joint-multi-token"), random_batch(), 0.05 if autocast else 1e-5
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = made.loss(batch, rng()).per_token[:, 6:]
        scored = -made.forced(batch).gather(-1, batch.answers[..., None])[..., 0]
    torch.testing.assert_close(losses, scored, rtol=close, atol=close)


@pytest.mark.parametrize(("horizon", "heads"), [(1, 4), (3, 2)])
def test_parameters_by_formula(horizon: int, heads: int) -> None:
    made = scrambled(f"joint-multi-token:horizon={horizon},heads={heads}")
    own = sum(each.numel() for each in made.parameters()) - sum(each.numel() for each in made.backbone.parameters())
    # Four projections, a bias for each head and pair of slots, two norms, and gamma.
    assert own == 4 * 32**2 + heads * (horizon + 1) ** 2 + 4 * 32 + 1


def test_weights_start_as_stated() -> None:
    backbone = transformer()
    fetch = JointMultiToken(backbone, numbered(13), rng()).fetch
    assert fetch.state_weight.item() == pytest.approx(0.1)
    assert not fetch.bias_table.any()
    for weight in (fetch.queries_keys, fetch.values, fetch.out):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_every_slot_teaches_the_whole_backbone() -> None:
    made = scrambled("joint-multi-token:horizon=2")
    parts = made.loss(random_batch(), rng()).parts
    for part in parts.values():
        gradients = torch.autograd.grad(part, list(made.backbone.parameters()), retain_graph=True)
        assert all(gradient.any() for gradient in gradients)
