"""Belief state: which pairs are joined, their losses, and what decoding does without."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from objective_support import LEARNED, rng, scrambled
from support import SMALL, VOCAB, Stub, build, numbered, random_batch, right_padded
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.transformer import Transformer
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.belief_state import BeliefState


def joined(objective: Any, batch: Batch) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """What the text head is given in training: prefixes [B, P, D], suffixes [B, S, D], and the pairs."""
    given: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    hook = objective.text_head.register_forward_pre_hook(lambda _module, inputs: given.append(inputs))
    try:
        objective.loss(batch, rng())
    finally:
        hook.remove()
    ((prefixes, suffixes, front, back),) = given
    return prefixes.detach(), suffixes.detach(), list(zip(front.tolist(), back.tolist(), strict=True))


AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4, 0.0], [2 / 3, 1 / 3, 0.0], [1 / 5, 3 / 5, 1 / 5]])
"""Row t: probabilities of a, b and <end> beside a, b or <end>, before it as after it."""


class TwoWayStub(Stub):
    """Both encoders give the token they read last, as a one-hot vector."""

    def twin(self, generator: torch.Generator) -> TwoWayStub:
        return TwoWayStub(torch.zeros(3, 3), "token")


def test_loss_by_hand() -> None:
    """Prompt "a", answer "b b a". The text head changes nothing but the scale: a pair of one-hot vectors of length 3
    has a root mean square of 1 / sqrt(3)."""
    logits = AFTER_TOKEN.clamp_min(1e-30).log()
    objective = BeliefState(TwoWayStub(logits / 3**0.5, "token"), Vocabulary(("a", "b", "<end>")), rng())
    nn.init.zeros_(objective.text_head.outward)
    out = objective.loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    pairs = [  # what follows the prefix's last token, and what precedes the suffix's first
        (3 / 4, 1 / 5),  # a . . . <end>: b after a, a before <end>
        (1 / 3, 1 / 5),  # a b . . <end>: b after b, a before <end>
        (2 / 3, 1 / 5),  # a b b . <end>: a after b, a before <end>
        (3 / 4, 3 / 4),  # a . . a <end>: b after a, b before a
        (1 / 3, 3 / 4),  # a b . a <end>: b after b, b before a
        (3 / 4, 1 / 3),  # a . b a <end>: b after a, b before b
    ]
    following, preceding = [log(after) for after, _ in pairs], [log(before) for _, before in pairs]
    assert out.parts["next"].item() == pytest.approx(-sum(following) / 12, rel=1e-4)
    assert out.parts["previous"].item() == pytest.approx(-sum(preceding) / 12, rel=1e-4)
    assert out.total.item() == pytest.approx(-sum(following + preceding) / 12, rel=1e-4)
    assert out.per_token[0].tolist() == pytest.approx([0.0, *(-term for term in following[:3])], rel=1e-4)


def by_loops(objective: Any, row: list[int], prompt: int) -> tuple[float, list[float]]:
    """One row's mean over pairs, and the loss of each answer token without a suffix; every state computed alone."""
    net, head, text = objective.backbone, objective.text_head, [*row, objective.end]
    hidden = 16 * net.width // 3

    def state(encoder: nn.Module, tokens: list[int]) -> Tensor:
        last: Tensor = encoder(net.embed(torch.tensor([tokens])))[0, -1]
        return last

    losses, alone = [], []
    for i in range(prompt - 1, len(row)):
        for j in range(i + 2, len(text)):
            c = torch.cat((state(net, text[: i + 1]), state(objective.backward_encoder, text[j:][::-1])))
            inner = head.inward @ c
            c = c + head.outward @ (functional.silu(inner[:hidden]) * inner[hidden:])
            c = c / (c.square().mean() + 1e-6).sqrt() * head.norm.weight
            following, preceding = (net.logits(half).log_softmax(-1) for half in c.chunk(2))
            losses.append(-(following[text[i + 1]] + preceding[text[j - 1]]).item() / 2)
            if j == len(row):
                alone.append(-following[text[i + 1]].item())
    return sum(losses) / len(losses), alone


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("padding", [0, 12])
@torch.no_grad()
def test_losses_are_those_of_every_pair_computed_alone(backbone: str, padding: int) -> None:
    """Rows of differing lengths, each weighing as much as it has answer tokens."""
    objective = scrambled("belief-state", backbone)
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 5), (3, 1)])]
    out = objective.loss(right_padded(rows, padding), rng())
    total = 0.0
    for number, row in enumerate(rows):
        prompt, columns = row.layout.first, row.tokens.shape[1]
        mean, alone = by_loops(objective, row.tokens[0].tolist(), prompt)
        total += mean * row.layout.width / 12
        expected = [0.0] * prompt + alone + [0.0] * (out.per_token.shape[1] - columns)
        assert out.per_token[number].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert out.total.item() == pytest.approx(total, rel=1e-4)
    torch.testing.assert_close(out.parts["next"] + out.parts["previous"], out.total)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_pairs_leave_at_least_one_answer_token_between(length: int) -> None:
    _, _, pairs = joined(scrambled("belief-state"), random_batch(answer=length))
    assert len(pairs) == length * (length + 1) // 2
    assert set(pairs) == {(front, back) for front in range(length) for back in range(length - front)}


class Constant(nn.Module):
    """One state, whatever is read."""

    def __init__(self, state: Tensor) -> None:
        super().__init__()
        self.state = state

    def forward(self, x: Tensor) -> Tensor:
        return self.state.expand(*x.shape[:2], -1)


@torch.no_grad()
def test_decoding_needs_one_constant_of_the_backward_encoder() -> None:
    objective, batch = scrambled("belief-state"), random_batch()
    answers, forced = objective.generate(batch.prompts, 4), objective.forced(batch)
    state = objective.backward_encoder(objective.backbone.embed(torch.tensor([[objective.end]])))[0, 0]
    objective.backward_encoder = Constant(state)
    assert torch.equal(objective.generate(batch.prompts, 4), answers)
    assert torch.equal(objective.forced(batch), forced)
    objective.backward_encoder = Constant(state.flip(0))
    assert not torch.equal(objective.forced(batch), forced)


@pytest.mark.parametrize("backbone", SMALL)
@torch.no_grad()
def test_forcing_gives_the_losses_without_a_suffix(backbone: str) -> None:
    objective, batch = scrambled("belief-state", backbone), random_batch()
    forced = objective.forced(batch).gather(2, batch.answers[..., None])[..., 0]
    torch.testing.assert_close(objective.loss(batch, rng()).per_token[:, 6:], -forced, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", SMALL)
def test_parameters_are_two_backbones_one_table_and_the_text_head(backbone: str) -> None:
    objective = build("belief-state", backbone)
    assert isinstance(objective, BeliefState)
    net = objective.backbone
    twin = net.twin(rng())
    text_head = 3 * (2 * 32) * (16 * 32 // 3) + 2 * 32
    counted = [sum(parameter.numel() for parameter in part.parameters()) for part in (net, twin, objective)]
    assert counted[2] == counted[0] + counted[1] + text_head
    tables = (net.vocab_size * 32) * (2 if "tied=false" in backbone else 1)
    assert counted[1] == counted[0] - tables


@pytest.mark.slow
def test_the_published_size() -> None:
    """47,287,296 parameters at 12 layers, width 384 and 106 tokens (research/objectives.md section 9)."""
    vocab = numbered(105).extended(["<end>"])
    shape = {"layers": 12, "width": 384, "heads": 6, "positions": "rotary", "norm": "rms", "bias": False, "tied": False}
    backbone = Transformer(vocab, rng(), **shape)  # type: ignore[arg-type]  # options of several types
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 21_324_672
    objective = BeliefState(backbone, vocab, rng())
    assert sum(parameter.numel() for parameter in objective.parameters()) == 47_287_296


@pytest.mark.parametrize("recompute", [False, True])
def test_both_encoders_save_memory_or_neither(recompute: bool) -> None:
    backbone = build("next-token", LEARNED).backbone
    backbone.recompute = recompute
    objective = BeliefState(backbone, VOCAB.extended(["<end>"]), rng())
    assert objective.backward_encoder.recompute == recompute
