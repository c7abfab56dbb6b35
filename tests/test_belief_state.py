"""Belief state: which pairs are joined, what each encoder reads, and what decoding does without."""

from __future__ import annotations

from math import log
from typing import Literal

import pytest
import torch
from support import SMALL, VOCAB, Stub, build, numbered, random_batch, right_padded, scramble
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.transformer import Transformer
from foresee.core import seeds, spec
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import objectives
from foresee.objectives.belief_state import BeliefState
from foresee.tasks.path_star import PathStar

LEARNED = next(iter(SMALL))
EVERY = pytest.mark.parametrize("backbone", list(SMALL), ids=lambda name: name[-20:])


def rng() -> torch.Generator:
    return seeds.torch_stream("belief state")


def made(backbone: str = LEARNED) -> BeliefState:
    """With weights large enough that anything read shows in the output."""
    objective = build("belief-state", backbone)
    assert isinstance(objective, BeliefState)
    scramble(objective)
    return objective


def joined(objective: BeliefState, batch: Batch) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """What the text head is given in training: prefixes [B, P, D], suffixes [B, S, D], and the pairs."""
    given: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    hook = objective.text_head.register_forward_pre_hook(lambda _module, inputs: given.append(inputs))
    try:
        objective.loss(batch, rng())
    finally:
        hook.remove()
    ((prefixes, suffixes, front, back),) = given
    return prefixes.detach(), suffixes.detach(), list(zip(front.tolist(), back.tolist(), strict=True))


# The loss by hand.

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


def by_loops(objective: BeliefState, row: list[int], prompt: int) -> tuple[float, list[float]]:
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


@EVERY
@pytest.mark.parametrize("padding", [0, 12])
@torch.no_grad()
def test_losses_are_those_of_every_pair_computed_alone(backbone: str, padding: int) -> None:
    """Rows of differing lengths, each weighing as much as it has answer tokens."""
    objective = made(backbone)
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


@torch.no_grad()
def test_a_uniform_batch_loses_the_mean_of_its_rows() -> None:
    objective, batch = made(), random_batch(4)
    rows = [by_loops(objective, row.tolist(), 6) for row in batch.tokens]
    out = objective.loss(batch, rng())
    assert out.total.item() == pytest.approx(sum(mean for mean, _ in rows) / 4, rel=1e-4)
    expected = torch.tensor([alone for _, alone in rows])
    torch.testing.assert_close(out.per_token[:, 6:], expected, rtol=1e-3, atol=1e-4)
    draws = rng()
    objective.loss(batch, draws)
    assert torch.equal(draws.get_state(), rng().get_state())


# What is read.


@pytest.mark.parametrize("length", [1, 2, 5])
def test_pairs_leave_at_least_one_answer_token_between(length: int) -> None:
    _, _, pairs = joined(made(), random_batch(answer=length))
    assert len(pairs) == length * (length + 1) // 2
    assert set(pairs) == {(front, back) for front in range(length) for back in range(length - front)}


@EVERY
def test_prefixes_read_what_comes_before_and_suffixes_what_comes_after(backbone: str) -> None:
    """Prefix a holds the prompt and the first a answer tokens, suffix m the last m."""
    objective, batch = made(backbone), random_batch()
    prefixes, suffixes, _ = joined(objective, batch)
    for column in range(10):
        tokens = batch.tokens.clone()
        tokens[:, column] = (tokens[:, column] + 3) % 10
        other_prefixes, other_suffixes, _ = joined(objective, Batch.of(tokens, 6, 4))
        changed = (prefixes != other_prefixes).any(-1).all(0), (suffixes != other_suffixes).any(-1).all(0)
        assert changed[0].tolist() == [column < 6 + known for known in range(4)], f"column {column}"
        assert changed[1].tolist() == [column >= 10 - known for known in range(4)], f"column {column}"
        assert torch.equal(prefixes[:, ~changed[0]], other_prefixes[:, ~changed[0]])
        assert torch.equal(suffixes[:, ~changed[1]], other_suffixes[:, ~changed[1]])


def test_the_empty_suffix_is_the_same_in_every_row_and_in_decoding() -> None:
    objective, batch = made(), random_batch()
    _, suffixes, _ = joined(objective, batch)
    alone = objective.backward_encoder(objective.backbone.embed(torch.tensor([[objective.end]])))[0, 0]
    torch.testing.assert_close(suffixes[:, 0], alone.expand(16, -1))


# Decoding.


class Constant(nn.Module):
    """One state, whatever is read."""

    def __init__(self, state: Tensor) -> None:
        super().__init__()
        self.state = state

    def forward(self, x: Tensor) -> Tensor:
        return self.state.expand(*x.shape[:2], -1)


@torch.no_grad()
def test_decoding_needs_one_constant_of_the_backward_encoder() -> None:
    objective, batch = made(), random_batch()
    wrote, forced = objective.generate(batch.prompts, 4), objective.forced(batch)
    state = objective.backward_encoder(objective.backbone.embed(torch.tensor([[objective.end]])))[0, 0]
    objective.backward_encoder = Constant(state)  # type: ignore[assignment]  # only read
    assert torch.equal(objective.generate(batch.prompts, 4), wrote)
    assert torch.equal(objective.forced(batch), forced)
    objective.backward_encoder = Constant(state.flip(0))  # type: ignore[assignment]
    assert not torch.equal(objective.forced(batch), forced)


@EVERY
@torch.no_grad()
def test_forcing_gives_the_losses_without_a_suffix(backbone: str) -> None:
    objective, batch = made(backbone), random_batch()
    forced = objective.forced(batch).gather(2, batch.answers[..., None])[..., 0]
    torch.testing.assert_close(objective.loss(batch, rng()).per_token[:, 6:], -forced, rtol=1e-4, atol=1e-4)


# Parts and refusals.


@EVERY
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


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_prefix_that_rows_share_is_read_once(positions: Literal["learned", "rotary"]) -> None:
    task = PathStar(degree=2, length=4, nodes=20, goals="all")
    vocab = task.vocab.extended(["<end>"])
    backbone = Transformer(vocab, rng(), layers=2, width=16, heads=2, positions=positions)
    objective = BeliefState(backbone, vocab, rng())
    scramble(objective)
    batch = task.sample(8, seeds.stream("belief state"))
    read: list[int] = []
    backbone.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0].shape[:2].numel()))
    apart = objective.loss(batch, rng())
    together = objective.loss(batch.sharing(task.group, task.shared_prefix), rng())
    torch.testing.assert_close(together.total, apart.total)
    torch.testing.assert_close(together.per_token, apart.per_token, rtol=1e-4, atol=1e-4)
    assert read[1] < 0.7 * read[0]


@pytest.mark.parametrize("recompute", [False, True])
def test_both_encoders_save_memory_or_neither(recompute: bool) -> None:
    backbone = build("next-token", LEARNED).backbone
    backbone.recompute = recompute
    objective = BeliefState(backbone, VOCAB.extended(["<end>"]), rng())
    assert objective.backward_encoder.recompute == recompute


def test_it_takes_no_options_and_needs_its_end_symbol() -> None:
    with pytest.raises(RequestError, match="has no option 'gap'"):
        build("belief-state:gap=2", LEARNED)
    with pytest.raises(RequestError, match="symbol '<end>' is not in the vocabulary"):
        spec.resolve(objectives, "belief-state").build(build("next-token", LEARNED).backbone, VOCAB, rng())
