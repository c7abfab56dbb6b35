"""Multi-token prediction by parallel heads, and by modules in sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import log
from typing import Any

import pytest
import torch
from objective_support import LEARNED, ROTARY, head_outputs, ragged_rows, rng, scrambled
from support import Stub, random_batch, right_padded
from torch import Tensor

from foresee.backbones.base import Layer
from foresee.backbones.transformer import Transformer
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.multi_token import MultiToken
from foresee.objectives.multi_token_sequential import MultiTokenSequential, PredictionModule

AFTER_TOKEN = torch.tensor(
    [[1 / 4, 3 / 4], [2 / 3, 1 / 3], [1 / 5, 4 / 5], [3 / 7, 4 / 7], [1 / 9, 8 / 9], [2 / 11, 9 / 11]]
)
"""Probabilities of a and b. Rows 0 and 1: next-token's after reading a and b; the others are for further tokens."""


@torch.no_grad()
def parts_of_loss(made: Any, batch: Batch) -> dict[str, float]:
    return {name: part.item() for name, part in made.loss(batch, rng()).parts.items()}


class NextRows(Layer):
    """Adds a number to the row of the table that a state stands for."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        shifted = z.roll(self.rows, -1)
        return shifted if keep is None else shifted[:, keep]


class HeadTable(Stub):
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
def test_heads_by_hand(row: list[int], prompt: int, heads: list[list[float]]) -> None:
    made = MultiToken(HeadTable(), Vocabulary(("a", "b")), rng(), heads=3, weight=0.5)
    out = made.loss(Batch.of(torch.tensor([row]), prompt, 3), rng())
    sums = [-sum(map(log, each)) for each in heads]
    assert list(out.parts) == ["next-token", "head-2", "head-3"]
    expected = [sums[0] / 3, 0.5 * sums[1] / 3, 0.5 * sums[2] / 3]
    assert [part.item() for part in out.parts.values()] == pytest.approx(expected, rel=1e-5)
    assert out.total.item() == pytest.approx(sum(expected), rel=1e-5)
    assert out.per_token[0, prompt:].tolist() == pytest.approx([-log(p) for p in heads[0]], rel=1e-5)
    assert not out.per_token[0, :prompt].any()


class AsItIs(Layer):
    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        return z if keep is None else z[:, keep]


class ModuleTable(Stub):
    """Rows 0 and 1: next-token's probabilities after reading a and b. Rows 2 to 5 are for modules to choose from."""

    def __init__(self) -> None:
        super().__init__(AFTER_TOKEN.log(), "token")

    def last_layer(self, generator: torch.Generator) -> Layer:
        return AsItIs()


@pytest.mark.parametrize(
    ("row", "prompt", "modules"),
    [
        # The prompt "a", the answer "b b a". Module 1 at a and b is shown b, b and predicts b, a. Module 2 at a has
        # module 1's state there, made of the b it was shown, and predicts a.
        ([0, 1, 1, 0], 1, [[3 / 4, 1 / 3, 2 / 3], [4 / 7, 3 / 7], [2 / 11]]),
        # The prompt "b a", the answer "b b a": module 1 at the first b is shown the a and predicts a b.
        ([1, 0, 1, 1, 0], 2, [[3 / 4, 1 / 3, 2 / 3], [4 / 5, 4 / 7, 3 / 7], [8 / 9, 2 / 11]]),
    ],
)
def test_modules_by_hand(row: list[int], prompt: int, modules: list[list[float]]) -> None:
    """Module 1 looks at the token it is shown alone, and module 2 at the state it is given alone."""
    made = MultiTokenSequential(ModuleTable(), Vocabulary(("a", "b")), rng(), depth=2, weight=0.3)
    # A one-hot vector of width 6 is normalised to sqrt(6).
    shift = torch.eye(6).roll(2, 0) / math.sqrt(6)
    with torch.no_grad():
        made.chain[0].get_parameter("projection").copy_(torch.cat((torch.zeros(6, 6), shift), 1))
        made.chain[1].get_parameter("projection").copy_(torch.cat((shift, torch.zeros(6, 6)), 1))
    out = made.loss(Batch.of(torch.tensor([row]), prompt, 3), rng())
    sums = [-sum(map(log, each)) for each in modules]
    assert list(out.parts) == ["next-token", "module-1", "module-2"]
    expected = [sums[0] / 3, 0.15 * sums[1] / 3, 0.15 * sums[2] / 3]
    assert [part.item() for part in out.parts.values()] == pytest.approx(expected, rel=1e-4)
    assert out.total.item() == pytest.approx(sum(expected), rel=1e-4)
    assert out.per_token[0, prompt:].tolist() == pytest.approx([-log(p) for p in modules[0]], rel=1e-5)
    assert not out.per_token[0, :prompt].any()


# The same losses, worked out row by row and pair by pair.


def heads_loss(made: Any, rows: list[Batch]) -> dict[str, float]:
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


def rms_normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / math.sqrt((x * x).mean().item() + 1e-6) * weight


def modules_loss(made: Any, rows: list[Batch]) -> dict[str, float]:
    sums = [0.0 for _ in range(len(made.chain) + 1)]
    answers = 0
    for row in rows:
        tokens, prompt, end = row.tokens[0], int(row.prompt_len), int(row.prompt_len + row.answer_len)
        answers += end - prompt
        embedded = made.backbone.embed(row.tokens)[0]
        states = made.backbone(embedded[None])[0]
        for k in range(len(made.chain) + 1):
            if k:
                module = made.chain[k - 1]
                assert isinstance(module, PredictionModule)
                joined = []
                for t in range(end - k):
                    state = rms_normed(states[t], module.state_norm.weight)
                    token = rms_normed(embedded[t + k], module.token_norm.weight)
                    joined.append(module.projection @ torch.cat((state, token)))
                states = module.layer(torch.stack(joined)[None])[0]
            for t in range(end - k):
                if prompt <= t + k + 1 < end:
                    sums[k] -= made.backbone.logits(states[t]).log_softmax(-1)[tokens[t + k + 1]].item()
    parts = {"next-token": sums[0] / answers}
    for k in range(1, len(sums)):
        parts[f"module-{k}"] = made.weight / len(made.chain) * sums[k] / answers
    return parts


@torch.no_grad()
@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
@pytest.mark.parametrize(
    ("objective", "by_pairs"),
    [("multi-token:heads=5,weight=0.3", heads_loss), ("multi-token-sequential:depth=3,weight=0.7", modules_loss)],
)
def test_every_pair_counts_once_by_its_target(
    objective: str, by_pairs: Callable[[Any, list[Batch]], dict[str, float]], backbone: str
) -> None:
    made, rows = scrambled(objective, backbone), ragged_rows([(3, 4), (6, 2), (4, 4), (3, 1), (1, 3)])
    for batch, of in ((right_padded(rows, 12), rows), (rows[1], rows[1:2])):
        assert parts_of_loss(made, batch) == pytest.approx(by_pairs(made, of), rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "beyond"),
    [
        ("multi-token:heads=12", ["head-10", "head-11", "head-12"]),
        ("multi-token-sequential:depth=10", ["module-9", "module-10"]),
        ("joint-multi-token:horizon=10", ["slot-9", "slot-10"]),
    ],
)
def test_what_looks_beyond_the_sequence_adds_nothing(objective: str, beyond: list[str]) -> None:
    out = scrambled(objective).loss(random_batch(), rng())
    assert [name for name, part in out.parts.items() if part == 0] == beyond
    assert out.total.isfinite()


def test_a_head_is_as_deep_as_the_next_token_path() -> None:
    """With the last layer's own weights, a head at a position says what next-token says there."""
    made, batch = scrambled("multi-token:heads=2"), random_batch(prompt=6)
    backbone, head = made.backbone, made.further_heads[0]
    assert isinstance(backbone, Transformer)
    head.get_submodule("block").load_state_dict(backbone.blocks[-1].state_dict())
    head.get_submodule("norm").load_state_dict(backbone.final_norm.state_dict())
    following, further = head_outputs(made, batch)
    torch.testing.assert_close(further[:, 1:], following[:, :-1])


def test_heads_learn_through_the_trunk_and_beside_the_last_layer() -> None:
    made = scrambled("multi-token:heads=2")
    backbone = made.backbone
    assert isinstance(backbone, Transformer)
    part = made.loss(random_batch(), rng()).parts["head-2"]
    last = list(backbone.blocks[-1].parameters()) + list(backbone.final_norm.parameters())
    below = list(backbone.blocks[0].parameters())
    gradients = torch.autograd.grad(part, [*last, *below], allow_unused=True)
    assert all(gradient is None for gradient in gradients[: len(last)])
    assert all(gradient.any() for gradient in gradients[len(last) :])


def test_modules_learn_through_the_whole_backbone_and_each_other() -> None:
    made = scrambled("multi-token-sequential:depth=2")
    parts = made.loss(random_batch(), rng()).parts
    first, second = (list(module.parameters()) for module in made.chain)
    backbone = list(made.backbone.parameters())
    of_one = torch.autograd.grad(parts["module-1"], [*backbone, *first, *second], allow_unused=True, retain_graph=True)
    of_two = torch.autograd.grad(parts["module-2"], [*backbone, *first, *second], allow_unused=True)
    learning = len(backbone) + len(first)
    assert all(gradient.any() for gradient in (*of_one[:learning], *of_two))
    assert all(gradient is None for gradient in of_one[learning:])


@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
def test_under_autocast_states_stay_float32(backbone: str) -> None:
    """Also so that no norm is given a bfloat16 input with float32 weights, of which PyTorch warns."""
    made = scrambled("multi-token-sequential:depth=3", backbone)
    outputs: list[Tensor] = []
    for module in made.chain:
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        out = made.loss(random_batch(), rng())
    assert [each.dtype for each in outputs] == [torch.float32] * 3
    torch.autograd.backward(out.total)
    assert all(parameter.grad is not None for parameter in made.parameters())


@pytest.mark.parametrize("number", [1, 3])
def test_parameters_by_formula(number: int) -> None:
    """A block has 12 D^2 weights, 9 D biases and two norms of 2 D; its final norm has 2 D. M has 2 D^2 and the norms
    before it 2 D."""
    for objective, each in ((f"multi-token:heads={number + 1}", 12 * 32**2 + 15 * 32),
                            (f"multi-token-sequential:depth={number}", 14 * 32**2 + 17 * 32)):  # fmt: skip
        made = scrambled(objective)
        own = [parameter.numel() for name, parameter in made.named_parameters() if not name.startswith("backbone.")]
        assert sum(own) == number * each
