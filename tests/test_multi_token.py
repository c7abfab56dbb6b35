"""Multi-token prediction with parallel heads."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from several_tokens import AFTER_TOKEN, KINDS, parts_of_loss, predictions, ragged_batches, scrambled
from support import Stub, random_batch
from torch import Tensor

from foresee.backbones.base import Layer
from foresee.backbones.transformer import Transformer
from foresee.core.batch import Batch
from foresee.core.seeds import stream, torch_stream
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.multi_token import MultiToken
from foresee.tasks.path_star import PathStar


def build(options: str = "heads=4", vocab_size: int = 13, **kind: Any) -> MultiToken:
    made = scrambled(f"multi-token:{options}", vocab_size, **kind)
    assert isinstance(made, MultiToken)
    return made


# A loss by hand.


class NextRows(Layer):
    """Adds a number to the row of the table that a state stands for."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        shifted = z.roll(self.rows, -1)
        return shifted if keep is None else shifted[:, keep]


class Table(Stub):
    """Rows 2 j and 2 j + 1 of the table are head j + 1's probabilities after reading a and b."""

    def __init__(self) -> None:
        super().__init__(AFTER_TOKEN.log(), "token")
        self.made = 0

    def last_layer(self, generator: torch.Generator) -> Layer:
        self.made += 1
        return NextRows(2 * self.made)


@pytest.mark.parametrize(
    ("row", "prompt", "heads"),
    [
        # The prompt "a", the answer "b b a". Head 2 reads a, b and predicts b, a; head 3 reads a and predicts a.
        ([0, 1, 1, 0], 1, [[3 / 4, 1 / 3, 2 / 3], [4 / 5, 3 / 7], [1 / 9]]),
        # The prompt "b a", the answer "b b a": head 2 predicts the first "b" from the prompt's b, before it read "a".
        ([1, 0, 1, 1, 0], 2, [[3 / 4, 1 / 3, 2 / 3], [4 / 7, 4 / 5, 3 / 7], [9 / 11, 1 / 9]]),
    ],
)
def test_loss_by_hand(row: list[int], prompt: int, heads: list[list[float]]) -> None:
    made = MultiToken(Table(), Vocabulary(("a", "b")), torch_stream("t"), heads=3, weight=0.5)
    out = made.loss(Batch.of(torch.tensor([row]), prompt, 3), torch_stream("t"))
    sums = [-sum(map(log, each)) for each in heads]
    assert list(out.parts) == ["next-token", "head-2", "head-3"]
    expected = [sums[0] / 3, 0.5 * sums[1] / 3, 0.5 * sums[2] / 3]
    assert [part.item() for part in out.parts.values()] == pytest.approx(expected, rel=1e-5)
    assert out.total.item() == pytest.approx(sum(expected), rel=1e-5)
    assert out.per_token[0, prompt:].tolist() == pytest.approx([-log(p) for p in heads[0]], rel=1e-5)
    assert not out.per_token[0, :prompt].any()


# The same loss, worked out row by row and pair by pair.


def pairs_loss(made: MultiToken, rows: list[Batch]) -> dict[str, float]:
    """For each head the sum over pairs (t, j) whose target t + j is in the answer, over the number of answer tokens."""
    heads = [None, *made.further_heads]
    sums = [0.0 for _ in heads]
    answers = 0
    for row in rows:
        prompt, end = int(row.prompt_len), int(row.prompt_len + row.answer_len)
        answers += end - prompt
        states = made.backbone.trace(made.backbone.embed(row.tokens))
        for index, head in enumerate(heads):
            final = states[-1] if head is None else head(states[-2])
            for t in range(end):
                target = t + index + 1
                if prompt <= target < end:
                    sums[index] -= made.backbone.logits(final[0, t]).log_softmax(-1)[row.tokens[0, target]].item()
    weights = [1.0] + [made.weight] * len(made.further_heads)
    names = ["next-token", *(f"head-{j}" for j in range(2, len(heads) + 1))]
    return {name: weight * total / answers for name, weight, total in zip(names, weights, sums, strict=True)}


@torch.no_grad()
@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_counts_once_by_its_target(kind: dict[str, Any], padding: int) -> None:
    made = build("heads=5,weight=0.3", **kind)
    for batch, rows in ragged_batches(padding):
        assert parts_of_loss(made, batch) == pytest.approx(pairs_loss(made, rows), rel=1e-4)


def test_the_default_weight_gives_the_plain_sum_and_a_small_one_the_mean() -> None:
    batch = random_batch()
    plain = build("heads=3").loss(batch, torch_stream("t")).parts
    mean = build("heads=3,weight=0.5").loss(batch, torch_stream("t")).parts
    torch.testing.assert_close(mean["next-token"], plain["next-token"])
    for name in ("head-2", "head-3"):
        torch.testing.assert_close(2 * mean[name], plain[name])


# What is read.


def test_the_branch_token_is_predicted_before_any_answer_token_is_read() -> None:
    """On path-star, the token after the start: head 2 predicts it from "=", head 3 from the goal."""
    task = PathStar(degree=2, length=5, nodes=20)
    batch = task.sample(8, stream("test"))
    made = build("heads=3", vocab_size=len(task.vocab))
    first = batch.layout.first
    trunk = made.backbone.trace(made.backbone.embed(batch.prompts))[-2]
    seen = predictions(made, batch)
    for j, head in enumerate(made.further_heads, start=2):
        expected = made.backbone.logits(head(trunk))[:, first + 1 - j]
        torch.testing.assert_close(seen[j - 1][:, 1], expected.detach(), rtol=1e-4, atol=1e-4)


# Shape.


def test_a_head_is_as_deep_as_the_next_token_path() -> None:
    """With the last layer's own weights, a head at a position says what next-token says there."""
    made, batch = build("heads=2"), random_batch(prompt=6)
    backbone, head = made.backbone, made.further_heads[0]
    assert isinstance(backbone, Transformer)
    head.get_submodule("block").load_state_dict(backbone.blocks[-1].state_dict())
    head.get_submodule("norm").load_state_dict(backbone.final_norm.state_dict())
    following, further = predictions(made, batch)
    torch.testing.assert_close(further[:, 1:], following[:, :-1])


def test_heads_learn_through_the_trunk_and_beside_the_last_layer() -> None:
    made = build("heads=2")
    backbone = made.backbone
    assert isinstance(backbone, Transformer)
    part = made.loss(random_batch(), torch_stream("t")).parts["head-2"]
    last = list(backbone.blocks[-1].parameters()) + list(backbone.final_norm.parameters())
    below = list(backbone.blocks[0].parameters())
    gradients = torch.autograd.grad(part, [*last, *below], allow_unused=True)
    assert all(gradient is None for gradient in gradients[: len(last)])
    assert all(gradient.any() for gradient in gradients[len(last) :])


@pytest.mark.parametrize("heads", [2, 4])
def test_parameters_by_formula(heads: int) -> None:
    made = build(f"heads={heads}")
    width = 32
    # A block has 12 D^2 weights, 9 D biases and two norms of 2 D; the final norm has 2 D.
    own = sum(each.numel() for each in made.parameters()) - sum(each.numel() for each in made.backbone.parameters())
    assert own == (heads - 1) * (12 * width**2 + 15 * width)
