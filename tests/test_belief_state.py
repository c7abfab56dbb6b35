"""Belief state: the loss by hand, what decoding does without, and sizes."""

from __future__ import annotations

from math import log

import pytest
import torch
from objective_support import LEARNED, assert_loss, rng, scrambled
from support import VOCAB, Stub, build, numbered, random_batch
from torch import Tensor, nn

from foresee.backbones.transformer import Transformer
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.belief_state import BeliefState

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
    parts = {"next": -sum(following) / 12, "previous": -sum(preceding) / 12}
    assert_loss(out, parts, [-term for term in following[:3]], 1e-4)


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
    for recompute in (False, True):  # both encoders save memory, or neither
        backbone = build("next-token", LEARNED).backbone
        backbone.recompute = recompute
        assert BeliefState(backbone, VOCAB.extended(["<end>"]), rng()).backward_encoder.recompute == recompute


@pytest.mark.slow
def test_the_published_size() -> None:
    """47,287,296 parameters at 12 layers, width 384 and 106 tokens (research/objectives.md section 9)."""
    vocab = numbered(105).extended(["<end>"])
    shape = {"layers": 12, "width": 384, "heads": 6, "positions": "rotary", "norm": "rms", "bias": False, "tied": False}
    backbone = Transformer(vocab, rng(), **shape)  # type: ignore[arg-type]  # options of several types
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 21_324_672
    objective = BeliefState(backbone, vocab, rng())
    assert sum(parameter.numel() for parameter in objective.parameters()) == 47_287_296
